# Casts, then one call that answers when all of them are done: ns per GenServer.cast.
defmodule Counter do
  use GenServer
  def init(n), do: {:ok, n}
  def handle_cast(:add, n), do: {:noreply, n + 1}
  def handle_call(:get, _from, n), do: {:reply, n, n}
end

defmodule Bench do
  def run(server, n) do
    loop(server, n)
    GenServer.call(server, :get, :infinity)
  end

  def loop(_server, 0), do: :ok

  def loop(server, n) do
    GenServer.cast(server, :add)
    loop(server, n - 1)
  end
end

[rounds] = System.argv()
{:ok, server} = GenServer.start_link(Counter, 0)
Bench.run(server, 50_000)
n = 500_000

for _ <- 1..String.to_integer(rounds) do
  {us, _} = :timer.tc(Bench, :run, [server, n])
  IO.puts("cast\tns\t#{us * 1000 / n}")
end
