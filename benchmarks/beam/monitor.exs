# A process is monitored, and not any more: ns per pair.
[rounds] = System.argv()
pid = spawn(fn -> Process.sleep(:infinity) end)

defmodule Bench do
  def pairs(_, 0), do: :ok

  def pairs(pid, n) do
    Process.demonitor(Process.monitor(pid))
    pairs(pid, n - 1)
  end
end

n = 200_000
Bench.pairs(pid, n)

for _ <- 1..String.to_integer(rounds) do
  {us, _} = :timer.tc(Bench, :pairs, [pid, n])
  IO.puts("monitor\tns\t#{us * 1000 / n}")
end
