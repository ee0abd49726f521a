Code.require_file("_helper.exs", __DIR__)

# A machine that does what its table says, with a terminate that shows what it is given.
defmodule M do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def start(table, trap \\ false) do
    {:ok, p} = :gen_statem.start(M, {table, trap}, [])
    p
  end
  def init({table, trap}) do
    Process.flag(:trap_exit, trap)
    {:ok, :up, {:data, table}}
  end
  def handle_event(type, event, state, {what, table}) do
    {kind, from} = case type do {:call, from} -> {:call, from}; kind -> {kind, nil} end
    event = case event do {:EXIT, _, reason} -> {:EXIT, reason}; event -> event end
    T.out("  #{state}: #{kind}", event)
    case Map.fetch!(table, event) do
      fun when is_function(fun) -> fun.(from, {what, table})
      result -> result
    end
  end
  def terminate(reason, state, {what, _}), do: T.out("  terminate", {reason, state, what})
end

defmodule S do
  # call from a process of its own; the answers are collected
  def ask(p, request, timeout \\ 1000) do
    me = self()
    spawn(fn ->
      answer = T.try_(fn -> :gen_statem.call(p, request, timeout) end)
      send(me, {request, case answer do {:exited, {reason, {:gen_statem, :call, _}}} -> {:exited, reason}; other -> other end})
    end)
    T.settle()
  end
  # do something to a machine with two callers waiting, and show what becomes of all three
  def go(label, table, act, trap \\ false) do
    T.sec(label)
    p = M.start(Map.merge(%{{:EXIT, :boom} => :keep_state_and_data, :a => :keep_state_and_data, :b => {:keep_state_and_data, :postpone}}, table), trap)
    ref = Process.monitor(p)
    ask(p, :a)
    ask(p, :b)
    act.(p)
    case T.down(ref, 200) do
      :no_down -> T.out("  still alive"); Process.demonitor(ref); Process.exit(p, :kill)
      reason -> T.out("  DOWN", reason)
    end
    T.settle(10)
    T.out("  callers", Enum.sort_by(T.flush(), &elem(&1, 0)))
  end
end

cast = fn event -> fn p -> :gen_statem.cast(p, event) end end
new = fn {_, table} -> {:new, table} end

S.go("stop", %{x: :stop}, cast.(:x))
S.go("stop with a reason", %{x: {:stop, :why}}, cast.(:x))
S.go("stop with a reason and new data", %{x: fn _, data -> {:stop, :why, new.(data)} end}, cast.(:x))
S.go("stop and reply", %{x: fn from, _ -> {:stop_and_reply, :why, {:reply, from, :bye}} end}, fn p -> S.ask(p, :x) end)
S.go("stop in a call without a reply", %{x: {:stop, :why}}, fn p -> S.ask(p, :x) end)
S.go("stop and reply, to one who waits for long", %{a: fn from, {_, table} -> {:keep_state, {from, table}} end,
  x: fn from, {a, table} -> {:stop_and_reply, :normal, [{:reply, a, :at_last}, {:reply, from, :bye}], {:gone, table}} end}, fn p -> S.ask(p, :x) end)
S.go("raise", %{x: fn _, _ -> raise "oops" end}, cast.(:x))
S.go("exit", %{x: fn _, _ -> exit(:boom) end}, cast.(:x))
S.go("raise in a call", %{x: fn _, _ -> raise "oops" end}, fn p -> S.ask(p, :x) end)
S.go("a reply stays one when what follows crashes", %{x: fn from, _ -> {:keep_state_and_data, [{:reply, from, :done}, {:next_event, :internal, :y}]} end, y: fn _, _ -> exit(:boom) end}, fn p -> S.ask(p, :x) end)
S.go("an internal event that stops", %{x: {:keep_state_and_data, {:next_event, :internal, :y}}, y: {:stop, :why}}, cast.(:x))
S.go("a timeout that stops", %{x: {:keep_state_and_data, {:state_timeout, 10, :y}}, y: {:stop, :why}}, cast.(:x))
S.go("stopped from outside", %{}, fn p -> :gen_statem.stop(p) end)
S.go("stopped from outside, with a reason", %{}, fn p -> :gen_statem.stop(p, :why, 1000) end)
S.go("exit signal", %{}, fn p -> Process.exit(p, :boom) end)
S.go("exit signal, trapped: an event like others", %{}, fn p -> Process.exit(p, :boom) end, true)
S.go("kill", %{}, fn p -> Process.exit(p, :kill) end)

T.sec("the parent of one that traps")
me = self()
for reason <- [:normal, :shutdown, :boom] do
  parent = spawn(fn ->
    {:ok, p} = :gen_statem.start_link(M, {%{}, true}, [])
    send(me, p)
    receive do :go -> exit(reason) end
  end)
  p = receive do p -> p end
  ref = Process.monitor(p)
  send(parent, :go)
  T.out("  DOWN", T.down(ref))
end

T.sec("states and replies of a start")
defmodule I do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def init(f), do: f.()
  def handle_event(_, _, _, _), do: :keep_state_and_data
  def terminate(_, _, _), do: T.out("TERMINATE CALLED")
end
for {name, f} <- [
  ok: fn -> {:ok, :up, nil} end, ignore: fn -> :ignore end, stop: fn -> {:stop, :why} end,
  raise: fn -> raise "oops" end, exit: fn -> exit(:boom) end, rubbish: fn -> :rubbish end
] do
  T.out("  #{name}", :gen_statem.start(I, f, []))
end
