# ns per :telemetry.execute that nobody listens to. Needs the telemetry library on the code path, for instance by ERL_LIBS.
defmodule Bench do
  def loop(0), do: :ok

  def loop(n) do
    :telemetry.execute([:bench, :nobody], %{value: 1}, %{key: 2})
    loop(n - 1)
  end
end

[rounds] = System.argv()

case Application.ensure_all_started(:telemetry) do
  {:ok, _} ->
    Bench.loop(100_000)
    n = 1_000_000

    for _ <- 1..String.to_integer(rounds) do
      {us, _} = :timer.tc(Bench, :loop, [n])
      IO.puts("telemetry, no handler\tns\t#{us * 1000 / n}")
    end

  {:error, _} ->
    IO.puts("the telemetry library is not on the code path (ERL_LIBS)")
end
