# A client's call crashes its supervised server; ns until a call is answered by the next one. Prints every figure.
defmodule Counter do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def init(n), do: {:ok, n}
  def handle_call({:add, by}, _from, n), do: {:reply, n + div(10, by), n}
end

defmodule Bench do
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
{:ok, _} = Supervisor.start_link([Counter], strategy: :one_for_one, max_restarts: 1_000_000, max_seconds: 1)
for _ <- 1..200, do: Bench.one()

for _ <- 1..String.to_integer(rounds) do
  figures = for _ <- 1..2_000, do: Bench.one()
  IO.puts("crash to answer\tns\t" <> Enum.join(figures, "\t"))
end
