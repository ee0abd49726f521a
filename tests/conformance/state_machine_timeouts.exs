Code.require_file("_helper.exs", __DIR__)

# A machine that prints each event with the state it came in, and does what its table says for that pair.
defmodule M do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def start(state, table, actions \\ []) do
    {:ok, p} = :gen_statem.start(M, {state, table, actions}, [])
    p
  end
  def init({state, table, actions}), do: {:ok, state, table, actions}
  def handle_event(type, event, state, table) do
    kind = case type do {:timeout, name} -> "timeout #{name}"; kind -> kind end
    T.out("  #{state}: #{kind}", event)
    Map.get(table, {state, event}, :keep_state_and_data)
  end
  # cast them all, with the machine held back until they are all there
  def cast_all(p, events) do
    :sys.suspend(p)
    Enum.each(events, &:gen_statem.cast(p, &1))
    :sys.resume(p)
    T.settle()
  end
  def cast(p, event, ms \\ 0) do
    :gen_statem.cast(p, event)
    Process.sleep(ms)
  end
end

set = fn actions -> {:keep_state_and_data, actions} end
go = fn state, table, actions -> {:next_state, state, table, actions} end

T.sec("one of each kind; each fires once")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 120, :state}, {{:timeout, :n}, 240, :named}, {:timeout, 60, :event}])})
M.cast(p, :set, 480)

T.sec("any event cancels the event timeout, and only that")
p = M.start(:s, %{{:s, :set} => set.([{:timeout, 120, :event}, {:state_timeout, 180, :state}, {{:timeout, :n}, 240, :named}])})
M.cast(p, :set, 30)
M.cast(p, :other, 480)

T.sec("a timeout is an event too")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 60, :state}, {:timeout, 120, :event}])})
M.cast(p, :set, 300)

T.sec("a request of the system is no event")
p = M.start(:s, %{{:s, :set} => set.([{:timeout, 120, :event}])})
M.cast(p, :set, 60)
T.out("  get_state", elem(:sys.get_state(p), 0))
Process.sleep(300)

T.sec("a change of state cancels the state timeout, not the named ones")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 120, :state}, {{:timeout, :n}, 180, :named}]), {:s, :go} => go.(:t, %{}, [])})
M.cast(p, :set, 30)
M.cast(p, :go, 360)

T.sec("keeping, repeating and going to the same state are no change")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 120, :state}]), {:s, :repeat} => :repeat_state_and_data, {:s, :same} => {:next_state, :s, %{}}})
M.cast(p, :set, 30)
M.cast(p, :repeat, 0)
M.cast(p, :same, 300)

T.sec("a state timeout set by the change belongs to the new state")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 60, :old}]), {:s, :go} => go.(:t, %{}, [{:state_timeout, 120, :new}])})
M.cast(p, :set, 30)
M.cast(p, :go, 300)

T.sec("set again: from the beginning, with the new content")
p = M.start(:s, %{{:s, :set} => set.([{{:timeout, :n}, 120, :first}]), {:s, :again} => set.([{{:timeout, :n}, 240, :second}])})
M.cast(p, :set, 60)
M.cast(p, :again, 120)
T.out("  not yet")
Process.sleep(300)

T.sec("cancel, infinity and update")
p = M.start(:s, %{
  {:s, :set} => set.([{:state_timeout, 120, :state}, {{:timeout, :n}, 120, :named}, {{:timeout, :m}, 180, :old}]),
  {:s, :cancel} => set.([{:state_timeout, :cancel}, {{:timeout, :n}, :infinity, :never}, {{:timeout, :m}, :update, :new}])
})
M.cast(p, :set, 30)
M.cast(p, :cancel, 360)

T.sec("to cancel what is not set is nothing; to update it is a timeout of zero")
p = M.start(:s, %{{:s, :go} => set.([{{:timeout, :n}, :cancel}, {:state_timeout, :cancel}, {{:timeout, :m}, :update, :updated}])})
M.cast_all(p, [:go, :queued])

T.sec("within one list of actions the last of a kind counts")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 60, :first}, {:state_timeout, 120, :second}, {{:timeout, :n}, 60, :set}, {{:timeout, :n}, :cancel}])})
M.cast(p, :set, 300)

T.sec("zero: after what is inserted, before what is queued, in the order in which they were set")
p = M.start(:s, %{{:s, :go} => set.([{:state_timeout, 0, :state}, {{:timeout, :n}, 0, :named}, {:next_event, :internal, :x}, {:next_event, :internal, :y}])})
M.cast_all(p, [:go, :queued])

T.sec("set twice, it counts as the later one; updated, it keeps its place")
p = M.start(:s, %{{:s, :go} => set.([{{:timeout, :n}, 0, :first}, {{:timeout, :m}, 0, :other}, {{:timeout, :n}, 0, :second}])})
M.cast_all(p, [:go, :queued])
p = M.start(:s, %{{:s, :go} => set.([{{:timeout, :n}, 0, :first}, {{:timeout, :m}, 0, :other}, {:next_event, :internal, :x}]), {:s, :x} => set.({{:timeout, :n}, :update, :updated})})
M.cast_all(p, [:go, :queued])
p = M.start(:s, %{{:s, :go} => set.([{{:timeout, :n}, 120, :set}, {{:timeout, :n}, :update, :updated}])})
M.cast_all(p, [:go, :queued])

T.sec("an event timeout of zero comes before what is queued, but not when anything is inserted or retried")
p = M.start(:s, %{{:s, :go} => set.([{:timeout, 0, :event}])})
M.cast_all(p, [:go, :queued])
p = M.start(:s, %{{:s, :go} => set.([{:timeout, 0, :event}, {:next_event, :internal, :x}])})
M.cast_all(p, [:go, :queued])
p = M.start(:s, %{{:s, :a} => {:keep_state_and_data, :postpone}, {:s, :go} => go.(:t, %{}, [{:timeout, 0, :event}])})
M.cast_all(p, [:a, :go, :queued])

T.sec("an event timeout of zero beside another of zero")
p = M.start(:s, %{{:s, :go} => set.([{:timeout, 0, :event}, {:state_timeout, 0, :state}])})
M.cast_all(p, [:go, :queued])
p = M.start(:s, %{{:s, :go} => set.([{:state_timeout, 0, :state}, {:timeout, 0, :event}])})
M.cast_all(p, [:go, :queued])

T.sec("a timeout of zero is retried and inserted events' later: what they insert comes first")
p = M.start(:s, %{
  {:s, :go} => set.([{{:timeout, :n}, 0, :zero}, {:next_event, :internal, :x}]),
  {:s, :x} => set.([{:next_event, :internal, :y}, {{:timeout, :m}, 0, :later}])
})
M.cast_all(p, [:go, :queued])

T.sec("a change of state cancels a state timeout of zero that has not come yet")
p = M.start(:s, %{{:s, :go} => set.([{:state_timeout, 0, :state}, {:next_event, :internal, :x}]), {:s, :x} => go.(:t, %{}, [])})
M.cast_all(p, [:go, :queued])

T.sec("one that has fired, and waits behind other events, is cancelled as well")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 60, :state}, {{:timeout, :n}, 60, :named}]), {:s, :go} => go.(:t, %{}, [{{:timeout, :n}, :cancel}])})
M.cast(p, :set)
:sys.suspend(p)
M.cast(p, :go)
Process.sleep(180)
:sys.resume(p)
T.settle()

T.sec("it is updated, too, or set anew")
p = M.start(:s, %{{:s, :set} => set.([{{:timeout, :n}, 60, :old}, {{:timeout, :m}, 60, :old}]), {:s, :up} => set.([{{:timeout, :n}, :update, :new}, {{:timeout, :m}, 120, :new}])})
M.cast(p, :set)
:sys.suspend(p)
M.cast(p, :up)
Process.sleep(180)
:sys.resume(p)
Process.sleep(240)

T.sec("what has fired waits in its turn")
p = M.start(:s, %{{:s, :set} => set.([{:state_timeout, 60, :state}, {{:timeout, :n}, 90, :named}])})
M.cast(p, :set)
:sys.suspend(p)
M.cast(p, :before)
Process.sleep(180)
M.cast(p, :after)
:sys.resume(p)
T.settle()

T.sec("init may set them")
M.start(:s, %{}, [{:state_timeout, 60, :state}, {{:timeout, :n}, 0, :zero}, {:next_event, :internal, :x}])
T.settle(180)

T.sec("an absolute time")
p = M.start(:s, %{{:s, :set} => set.([{{:timeout, :past}, :erlang.monotonic_time(:millisecond) - 1000, :past, abs: true},
  {{:timeout, :soon}, :erlang.monotonic_time(:millisecond) + 40, :soon, abs: true}])})
M.cast_all(p, [:set, :queued])
T.settle()
