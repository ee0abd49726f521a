# ns per Registry.lookup of 1,000 keys in turn, and per register + unregister of a process that has another key.
defmodule Bench do
  def lookup(0), do: :ok

  def lookup(n) do
    [{_, _}] = Registry.lookup(Names, rem(n, 1000))
    lookup(n - 1)
  end

  def register(0), do: :ok

  def register(n) do
    {:ok, _} = Registry.register(Some, rem(n, 1000), 1)
    :ok = Registry.unregister(Some, rem(n, 1000))
    register(n - 1)
  end
end

[rounds] = System.argv()
{:ok, _} = Registry.start_link(keys: :unique, name: Names)
for i <- 0..999, do: {:ok, _} = Registry.register(Names, i, i)
{:ok, _} = Registry.start_link(keys: :unique, name: Some)
{:ok, _} = Registry.register(Some, :always, 1)
Bench.lookup(50_000)
Bench.register(20_000)

for _ <- 1..String.to_integer(rounds) do
  n = 500_000
  {us, _} = :timer.tc(Bench, :lookup, [n])
  IO.puts("registry: lookup\tns\t#{us * 1000 / n}")
  n = 100_000
  {us, _} = :timer.tc(Bench, :register, [n])
  IO.puts("registry: register, unregister\tns\t#{us * 1000 / n}")
end
