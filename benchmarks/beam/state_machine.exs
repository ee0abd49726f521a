# One client, one gen_statem, by pid: ns per call that keeps the state, changes it, changes it and sets a state timeout, and per cast.
defmodule Switch do
  @behaviour :gen_statem
  def callback_mode, do: :handle_event_function
  def init(n), do: {:ok, :off, n}
  def handle_event({:call, from}, :add, _state, n), do: {:keep_state, n + 1, {:reply, from, n + 1}}
  def handle_event({:call, from}, :flip, state, n), do: {:next_state, other(state), n + 1, {:reply, from, n + 1}}

  def handle_event({:call, from}, :flip_for_a_minute, state, n),
    do: {:next_state, other(state), n + 1, [{:reply, from, n + 1}, {:state_timeout, 60_000, :late}]}

  def handle_event(:cast, :increase, _state, n), do: {:keep_state, n + 1}
  defp other(:off), do: :on
  defp other(:on), do: :off
end

defmodule Bench do
  def call(_server, _request, 0), do: :ok

  def call(server, request, n) do
    :gen_statem.call(server, request)
    call(server, request, n - 1)
  end

  def cast(server, 0), do: :gen_statem.call(server, :add)

  def cast(server, n) do
    :gen_statem.cast(server, :increase)
    cast(server, n - 1)
  end
end

[rounds] = System.argv()
{:ok, server} = :gen_statem.start_link(Switch, 0, [])
for request <- [:add, :flip, :flip_for_a_minute], do: Bench.call(server, request, 20_000)
Bench.cast(server, 20_000)

for _ <- 1..String.to_integer(rounds) do
  n = 100_000

  for {row, request} <- [
        {"call that keeps the state", :add},
        {"call that changes it", :flip},
        {"call that changes it and sets a timeout", :flip_for_a_minute}
      ] do
    {us, _} = :timer.tc(Bench, :call, [server, request, n])
    IO.puts("state machine: #{row}\tns\t#{us * 1000 / n}")
  end

  {us, _} = :timer.tc(Bench, :cast, [server, n])
  IO.puts("state machine: cast\tns\t#{us * 1000 / n}")
end
