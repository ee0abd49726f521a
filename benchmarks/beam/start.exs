# GenServers started under a DynamicSupervisor and kept alive: ns per start_child.
defmodule Counter do
  use GenServer, restart: :temporary
  def start_link(n), do: GenServer.start_link(__MODULE__, n)
  def init(n), do: {:ok, n}
end

defmodule Bench do
  def start(supervisor, n), do: Enum.each(1..n, fn i -> {:ok, _} = DynamicSupervisor.start_child(supervisor, {Counter, i}) end)
end

[rounds] = System.argv()
{:ok, supervisor} = DynamicSupervisor.start_link(strategy: :one_for_one)
Bench.start(supervisor, 2_000)
n = 20_000

for _ <- 1..String.to_integer(rounds) do
  {us, _} = :timer.tc(Bench, :start, [supervisor, n])
  IO.puts("start\tns\t#{us * 1000 / n}")
end

# Stopping a DynamicSupervisor is quadratic in its children.
System.halt(0)
