Code.require_file("_helper.exs", __DIR__)

# A door with a code lock, one function for each state. What the states have in common is one more function.
defmodule Lock do
  @behaviour :gen_statem
  def callback_mode, do: [:state_functions, :state_enter]
  def start(code), do: :gen_statem.start({:local, :lock}, Lock, code, [])
  def press(button), do: :gen_statem.cast(:lock, {:press, button})
  def init(code), do: {:ok, :locked, %{code: code, length: length(code), pressed: []}}

  def locked(:enter, _old, data) do
    T.out("  lock")
    {:keep_state, %{data | pressed: []}}
  end
  def locked(:state_timeout, :forget, data) do
    T.out("  forget")
    {:keep_state, %{data | pressed: []}}
  end
  def locked(:cast, {:press, button}, data) do
    pressed = Enum.take([button | data.pressed], data.length)
    if Enum.reverse(pressed) == data.code do
      {:next_state, :open, data}
    else
      {:keep_state, %{data | pressed: pressed}, {:state_timeout, 150, :forget}}
    end
  end
  def locked(type, event, data), do: common(type, event, :locked, data)

  def open(:enter, _old, _data) do
    T.out("  unlock")
    {:keep_state_and_data, {:state_timeout, 300, :lock}}
  end
  def open(:state_timeout, :lock, data), do: {:next_state, :locked, data}
  def open(:cast, {:press, _}, _data), do: {:keep_state_and_data, :postpone}
  def open({:call, from}, :hold, _data), do: {:keep_state_and_data, [{:reply, from, :held}, {:state_timeout, 600, :lock}]}
  def open(type, event, data), do: common(type, event, :open, data)

  def common({:call, from}, :state, state, data), do: {:keep_state_and_data, {:reply, from, {state, length(data.pressed)}}}
  def common(:info, message, state, _data) do
    T.out("  #{state}: a message", message)
    :keep_state_and_data
  end
  def common(:cast, {:code, code}, _state, data), do: {:repeat_state, %{data | code: code, length: length(code)}}
  def common({:call, from}, :walk_in, :open, _), do: {:keep_state_and_data, [{:reply, from, :welcome}, {:next_event, :internal, :walked}]}
  def common(:internal, :walked, :open, data) do
    T.out("  somebody walks in")
    {:next_state, :locked, data}
  end
  def terminate(reason, state, _) do
    T.out("  terminate #{state}", reason)
  end
end

press = fn buttons -> Enum.each(buttons, &Lock.press/1) end
call = fn request ->
  answer = T.try_(fn -> :gen_statem.call(:lock, request) end)
  T.settle(10)
  T.out("  #{request}", answer)
end

T.sec("opened, and locked again")
Lock.start([1, 2, 3])
press.([9, 1, 2])
call.(:state)
press.([3])
call.(:state)
T.settle(450)
call.(:state)

T.sec("too slow")
press.([1, 2])
T.settle(300)
press.([3])
call.(:state)
T.settle(300)

T.sec("keys pressed while it is open wait until it is locked")
press.([1, 2, 3, 1, 2, 3])
call.(:state)
T.settle(450)
call.(:state)
press.([1])
T.settle(450)
call.(:state)
T.settle(300)

T.sec("held open")
press.([1, 2, 3])
call.(:hold)
T.settle(450)
call.(:state)
T.settle(300)
call.(:state)

T.sec("an internal event")
press.([1, 2, 3])
call.(:walk_in)
call.(:state)

T.sec("another code")
:gen_statem.cast(:lock, {:code, [5]})
press.([1, 2, 3, 5])
call.(:state)
send(:lock, :hello)
T.settle(450)

T.sec("no state takes that")
ref = Process.monitor(:lock)
:gen_statem.cast(:lock, :kick)
T.out("  DOWN", elem(T.down(ref), 0))
Lock.start([1])
ref = Process.monitor(:lock)
T.out("  hold", case T.try_(fn -> :gen_statem.call(:lock, :hold) end) do {:exited, {{why, _}, _}} -> {:exited, why} end)
T.out("  DOWN", elem(T.down(ref), 0))
Lock.start([1])
ref = Process.monitor(:lock)
send(:lock, :hello)
press.([1])
call.(:walk_in)
call.(:state)
T.out("  stop", :gen_statem.stop(:lock))
T.out("  DOWN", T.down(ref))
