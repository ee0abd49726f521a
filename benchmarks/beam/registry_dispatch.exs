# ns per Registry.dispatch that sends to each of the subscribers, until all have received it.
defmodule Bench do
  def sink(parent) do
    {:ok, _} = Registry.register(Topics, :topic, nil)
    send(parent, :ready)
    receiving()
  end

  def receiving do
    receive do
      {:done, from} -> send(from, :done)
      :news -> :ok
    end

    receiving()
  end

  def run(n, sinks) do
    dispatch(n)
    for pid <- sinks, do: send(pid, {:done, self()})
    for _ <- sinks, do: receive(do: (:done -> :ok))
  end

  def dispatch(0), do: :ok

  def dispatch(n) do
    Registry.dispatch(Topics, :topic, fn entries -> for {pid, _} <- entries, do: send(pid, :news) end)
    dispatch(n - 1)
  end
end

[rounds] = System.argv()

for {subscribers, n} <- [{1, 100_000}, {100, 2_000}] do
  {:ok, registry} = Registry.start_link(keys: :duplicate, name: Topics)
  Process.unlink(registry)
  me = self()
  sinks = for _ <- 1..subscribers, do: spawn(fn -> Bench.sink(me) end)
  for _ <- sinks, do: receive(do: (:ready -> :ok))
  Bench.run(div(n, 10), sinks)

  for _ <- 1..String.to_integer(rounds) do
    {us, _} = :timer.tc(Bench, :run, [n, sinks])
    IO.puts("registry: dispatch to #{subscribers}\tns\t#{us * 1000 / n}")
  end

  Supervisor.stop(registry)
end
