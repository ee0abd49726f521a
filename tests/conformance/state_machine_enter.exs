Code.require_file("_helper.exs", __DIR__)

# A machine with state enter calls: it prints each entry and each event, and does what its table says.
defmodule M do
  @behaviour :gen_statem
  def callback_mode, do: [:handle_event_function, :state_enter]
  def start(state, table, actions \\ []) do
    {:ok, p} = :gen_statem.start(M, {state, table, actions}, [])
    p
  end
  def init({state, table, actions}), do: {:ok, state, table, actions}
  def handle_event(:enter, old, state, table) do
    T.out("  enter #{state} from", old)
    answer(table, {:enter, state})
  end
  def handle_event(type, event, state, table) do
    kind = case type do {:timeout, name} -> "timeout #{name}"; {:call, _} -> :call; kind -> kind end
    T.out("  #{state}: #{kind}", event)
    case type do
      {:call, from} -> {:keep_state, Map.put(table, :from, from)}
      _ -> answer(table, {state, event})
    end
  end
  def terminate(reason, state, _), do: T.out("  terminate #{state}", reason)
  defp answer(table, key) do
    case table[key] do
      nil -> :keep_state_and_data
      fun when is_function(fun) -> fun.(table)
      result -> result
    end
  end
  # cast them all, with the machine held back until they are all there
  def cast_all(p, events) do
    :sys.suspend(p)
    Enum.each(events, &:gen_statem.cast(p, &1))
    :sys.resume(p)
    T.settle()
  end
end

set = fn actions -> {:keep_state_and_data, actions} end

T.sec("the first state is entered from itself")
M.start(:a, %{})
T.settle()

T.sec("a change enters the new state, before anything else happens")
go = fn state, actions -> fn table -> {:next_state, state, table, actions} end end
p = M.start(:a, %{{:a, :x} => set.(:postpone), {:a, :go} => go.(:b, [{:next_event, :internal, :i}, {:state_timeout, 0, :zero}])})
M.cast_all(p, [:x, :go, :queued])

T.sec("the same state is not entered again; repeat_state enters it")
p = M.start(:a, %{{:a, :same} => go.(:a, []), {:a, :repeat} => :repeat_state_and_data, {:a, :new} => fn table -> {:repeat_state, Map.put(table, :n, 1)} end})
M.cast_all(p, [:same, :repeat, :new])

T.sec("repeating retries nothing, and leaves the timeouts alone")
p = M.start(:a, %{{:a, :x} => set.([:postpone, {:state_timeout, 20, :state}, {{:timeout, :n}, 30, :named}]), {:a, :repeat} => :repeat_state_and_data})
M.cast_all(p, [:x, :repeat])
T.settle(100)

T.sec("an enter call may change the data, set timeouts and reply")
p = M.start(:a, %{
  {:a, :go} => go.(:b, []),
  {:enter, :b} => fn table -> {:keep_state, Map.delete(table, :from), [{:reply, table.from, :entered}, {:state_timeout, 20, :state}, {{:timeout, :n}, 0, :zero}]} end
})
me = self()
spawn(fn -> send(me, {:answer, :gen_statem.call(p, :ask)}) end)
T.settle()
M.cast_all(p, [:go, :queued])
T.settle(100)
T.out("  mail", T.flush())

T.sec("what it sets overrides what the change has set")
p = M.start(:a, %{{:a, :go} => go.(:b, [{:state_timeout, 20, :change}, {{:timeout, :n}, 20, :change}]), {:enter, :b} => set.([{:state_timeout, 40, :enter}, {{:timeout, :n}, :cancel}])})
M.cast_all(p, [:go])
T.settle(100)

T.sec("an enter call may repeat itself, once or more")
p = M.start(:a, %{
  {:a, :go} => fn table -> {:next_state, :b, Map.put(table, :left, 2)} end,
  {:enter, :b} => fn %{left: 0} -> :keep_state_and_data; %{left: n} = table -> {:repeat_state, %{table | left: n - 1}, []} end
})
M.cast_all(p, [:go])

T.sec("next_state to the very same state is a way to keep it")
p = M.start(:a, %{{:a, :go} => go.(:b, []), {:enter, :b} => go.(:b, [{:state_timeout, 0, :state}])})
M.cast_all(p, [:go])

T.sec("what it may not do")
T.out("bad", for {name, result} <- [
  change: go.(:c, []), postpone: set.(:postpone), insert: set.({:next_event, :internal, :x}), rubbish: :rubbish
] do
  p = M.start(:a, %{{:a, :go} => go.(:b, []), {:enter, :b} => result})
  ref = Process.monitor(p)
  :gen_statem.cast(p, :go)
  {name, case T.down(ref) do {what, _stack} when is_tuple(what) -> what; why -> why end}
end)

T.sec("a stop, and a crash, when a state is entered")
for result <- [{:stop, :why}, :stop, fn _ -> raise "oops" end] do
  p = M.start(:a, %{{:a, :go} => go.(:b, []), {:enter, :b} => result})
  ref = Process.monitor(p)
  M.cast_all(p, [:go, :queued])
  T.out("  DOWN", T.down(ref))
end

T.sec("and the first state: whoever starts the machine has it already")
for result <- [{:stop, :why}, fn _ -> raise "oops" end] do
  {:ok, p} = :gen_statem.start(M, {:a, %{{:enter, :a} => fn _ -> Process.sleep(20); if is_function(result), do: result.(nil), else: result end}, []}, [])
  ref = Process.monitor(p)
  T.out("  DOWN", T.down(ref))
end

T.sec("what init has set is there in the first enter call, and after it comes what was sent meanwhile")
p = M.start(:a, %{{:enter, :a} => fn _ -> Process.sleep(20); {:keep_state_and_data, {:state_timeout, 0, :state}} end}, [{:next_event, :internal, :i}, {{:timeout, :n}, 0, :zero}])
:gen_statem.cast(p, :queued)
T.settle()
T.settle()
