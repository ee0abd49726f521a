# A client's call crashes its supervised server; ns until a call is answered by the next one. Prints every figure.
defmodule Counter do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def init(n), do: {:ok, n}
  def handle_call({:add, by}, _from, n), do: {:reply, n + div(10, by), n}
end

defmodule Bench do
  # A new supervisor for every 100 crashes: it walks through all restarts of the last second at each crash.
  def round do
    Enum.flat_map(1..20, fn _ ->
      {:ok, supervisor} = Supervisor.start_link([Counter], strategy: :one_for_one, max_restarts: 1_000, max_seconds: 1)
      figures = for _ <- 1..100, do: one()
      Supervisor.stop(supervisor)
      figures
    end)
  end

  def one do
    start = System.monotonic_time(:nanosecond)

    try do
      GenServer.call(Counter, {:add, 0})
    catch
      :exit, _ -> :ok
    end

    10 = answered()
    System.monotonic_time(:nanosecond) - start
  end

  # The client may be here before the supervisor has restarted the server.
  def answered do
    GenServer.call(Counter, {:add, 1})
  catch
    :exit, _ ->
      :erlang.yield()
      answered()
  end
end

[rounds] = System.argv()
:logger.set_primary_config(:level, :none)
Bench.round()

for _ <- 1..String.to_integer(rounds) do
  IO.puts("crash to answer\tns\t" <> Enum.join(Bench.round(), "\t"))
end
