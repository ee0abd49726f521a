# One client, one server, by a name in a Registry: ns per GenServer.call. Run as: elixir --erl "+S 1" call_by_via.exs ROUNDS
defmodule Counter do
  use GenServer
  def init(n), do: {:ok, n}
  def handle_call(:add, _from, n), do: {:reply, n + 1, n + 1}
end

defmodule Bench do
  def loop(_server, 0), do: :ok

  def loop(server, n) do
    GenServer.call(server, :add)
    loop(server, n - 1)
  end
end

[rounds] = System.argv()
{:ok, _} = Registry.start_link(keys: :unique, name: Names)
name = {:via, Registry, {Names, "counter"}}
{:ok, _} = GenServer.start_link(Counter, 0, name: name)
Bench.loop(name, 50_000)
n = 300_000

for _ <- 1..String.to_integer(rounds) do
  {us, _} = :timer.tc(Bench, :loop, [name, n])
  IO.puts("registry: call by via\tns\t#{us * 1000 / n}")
end
