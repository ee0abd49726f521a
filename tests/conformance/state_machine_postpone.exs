Code.require_file("_helper.exs", __DIR__)

# A machine that prints each event with the state it came in, and does what its table says for that pair.
defmodule M do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def init({state, table}), do: {:ok, state, table}
  def handle_event(type, event, state, table) do
    {kind, from} = case type do {:call, from} -> {:call, from}; {:timeout, name} -> {"timeout #{name}", nil}; kind -> {kind, nil} end
    T.out("  #{state}: #{kind}", event)
    case table[{state, event}] do
      nil -> :keep_state_and_data
      fun when is_function(fun) -> fun.(from)
      result -> result
    end
  end
end

defmodule S do
  def start(state, table) do
    {:ok, p} = :gen_statem.start(M, {state, table}, [])
    p
  end
  # cast them all, with the machine held back until they are all there
  def cast_all(p, events) do
    :sys.suspend(p)
    Enum.each(events, &:gen_statem.cast(p, &1))
    :sys.resume(p)
    T.settle()
  end
  # call from a process of its own; the answers are collected
  def ask(p, request, timeout \\ 1000) do
    me = self()
    spawn(fn -> send(me, {request, T.try_(fn -> :gen_statem.call(p, request, timeout) end)}) end)
    T.settle()
  end
end

open = {:next_state, :open, %{}}
postpone = {:keep_state_and_data, :postpone}

T.sec("postponed events wait for a change of state, oldest first, ahead of what is queued")
table = %{{:shut, :a} => postpone, {:shut, :b} => postpone, {:shut, :open} => open}
S.cast_all(S.start(:shut, table), [:a, :b, :open, :c])

T.sec("no change of state, no retry")
table = %{
  {:shut, :a} => postpone, {:shut, :keep} => :keep_state_and_data, {:shut, :same} => {:next_state, :shut, %{}},
  {:shut, :repeat} => :repeat_state_and_data
}
table = Map.put(table, {:shut, :same}, {:next_state, :shut, Map.put(table, {:shut, :open}, open)})
S.cast_all(S.start(:shut, table), [:a, :keep, :repeat, :same, :open])

T.sec("postponed again in the next state, retried in the one after")
table = %{{:one, :a} => postpone, {:two, :a} => postpone, {:two, :b} => postpone}
table = Map.merge(table, %{{:one, :go} => {:next_state, :two, Map.put(table, {:two, :go}, {:next_state, :three, %{}})}})
S.cast_all(S.start(:one, table), [:a, :go, :b, :go])

T.sec("the event that changes the state may be postponed itself: it is retried in the new state, after older ones")
table = %{{:shut, :a} => postpone, {:shut, :open} => {:next_state, :open, %{}, :postpone}}
S.cast_all(S.start(:shut, table), [:a, :open, :b])

T.sec("a retried event changes the state again: the rest is retried there, what was postponed meanwhile included")
table = %{
  {:one, :a} => postpone, {:one, :b} => postpone, {:one, :c} => postpone,
  {:two, :a} => postpone
}
table = Map.put(table, {:two, :b}, {:next_state, :three, %{}})
table = Map.put(table, {:one, :go}, {:next_state, :two, table})
S.cast_all(S.start(:one, table), [:a, :b, :c, :go, :d])

T.sec("inserted events come before retried ones, and these before what is queued")
table = %{{:shut, :a} => postpone, {:shut, :b} => postpone}
table = Map.put(table, {:shut, :open}, {:next_state, :open, %{}, [{:next_event, :internal, :x}, {:next_event, :internal, :y}]})
S.cast_all(S.start(:shut, table), [:a, :b, :open, :c])

T.sec("all kinds of events can be postponed: a call, a message, an internal event, a timeout")
table = %{
  {:shut, :call} => postpone, {:shut, :message} => postpone, {:shut, :inserted} => postpone, {:shut, :late} => postpone,
  {:shut, :start} => {:keep_state_and_data, [{:next_event, :internal, :inserted}, {{:timeout, :t}, 0, :late}]},
  {:shut, :open} => {:next_state, :open, %{{:open, :call} => fn from -> {:keep_state_and_data, {:reply, from, :answered}} end}}
}
p = S.start(:shut, table)
:gen_statem.cast(p, :start)
T.settle()
S.ask(p, :call)
send(p, :message)
T.settle()
S.cast_all(p, [:open])
T.out("answer", T.flush())

T.sec("the timeout of a caller counts while its call is postponed, and the late answer goes nowhere")
table = %{{:shut, :call} => postpone, {:shut, :open} => {:next_state, :open, %{{:open, :call} => fn from -> {:keep_state_and_data, {:reply, from, :late}} end}}}
p = S.start(:shut, table)
S.ask(p, :call, 20)
T.out("answer", Enum.map(T.flush(), fn {request, {how, {reason, _}}} -> {request, how, reason} end))
S.cast_all(p, [:open])
T.out("mail", T.flush())

T.sec("a reply does not end a postponed call's life: it is retried all the same")
table = %{
  {:shut, :call} => fn from -> {:keep_state_and_data, [{:reply, from, :first}, :postpone]} end,
  {:shut, :open} => {:next_state, :open, %{{:open, :call} => fn from -> {:keep_state_and_data, {:reply, from, :second}} end}}
}
p = S.start(:shut, table)
S.ask(p, :call)
S.cast_all(p, [:open])
T.out("answer", T.flush())

T.sec("states are compared as values")
table = %{{{:level, 1}, :a} => postpone}
defmodule L do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def init(_), do: {:ok, {:level, 1}, nil}
  def handle_event(:cast, :a, {:level, 1}, _) do T.out("  a postponed"); {:keep_state_and_data, :postpone} end
  def handle_event(:cast, {:level, n}, _, _) do T.out("  level", n); {:next_state, {:level, n}, nil} end
  def handle_event(:cast, :a, state, _) do T.out("  a in", state); :keep_state_and_data end
end
{:ok, p} = :gen_statem.start(L, nil, [])
S.cast_all(p, [:a, {:level, 1}, {:level, 2}])
