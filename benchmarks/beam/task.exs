# ns per Task.async + Task.await of a function that returns at once, and per item of Task.async_stream, 100 at a time.
defmodule Bench do
  def tasks(0), do: :ok

  def tasks(n) do
    Task.await(Task.async(fn -> n end))
    tasks(n - 1)
  end

  def stream(n), do: 1..n |> Task.async_stream(fn i -> i end, max_concurrency: 100) |> Stream.run()
end

[rounds] = System.argv()
Bench.tasks(20_000)
Bench.stream(10_000)

for _ <- 1..String.to_integer(rounds) do
  n = 100_000
  {us, _} = :timer.tc(Bench, :tasks, [n])
  IO.puts("task\tns\t#{us * 1000 / n}")
  n = 50_000
  {us, _} = :timer.tc(Bench, :stream, [n])
  IO.puts("async_stream, 100 at a time\tns\t#{us * 1000 / n}")
end
