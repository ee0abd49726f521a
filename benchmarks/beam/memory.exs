# Bytes of the operating system's memory per idle GenServer, kept alive.
defmodule Counter do
  use GenServer
  def init(n), do: {:ok, n}
end

resident = fn ->
  [_, pages | _] = "/proc/self/statm" |> File.read!() |> String.split()
  String.to_integer(pages) * 4096
end

[rounds] = System.argv()
n = 50_000
for i <- 1..1_000, do: {:ok, _} = GenServer.start(Counter, i)

for _ <- 1..String.to_integer(rounds) do
  :erlang.garbage_collect()
  before = resident.()
  for i <- 1..n, do: {:ok, _} = GenServer.start(Counter, i)
  IO.puts("memory of an idle server\tB\t#{(resident.() - before) / n}")
end

System.halt(0)
