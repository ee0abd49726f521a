# ns per operation on ETS tables of 200,000 objects, and per persistent_term:get of 1,000 keys in turn.
defmodule Bench do
  def insert(_, []), do: :ok

  def insert(t, [k | rest]) do
    true = :ets.insert(t, {k, k})
    insert(t, rest)
  end

  def lookup(_, 0), do: :ok

  def lookup(t, n) do
    [{_, _}] = :ets.lookup(t, n)
    lookup(t, n - 1)
  end

  def count(_, 0), do: :ok

  def count(t, n) do
    :ets.update_counter(t, :hits, 1)
    count(t, n - 1)
  end

  def next(_, :"$end_of_table"), do: :ok
  def next(t, k), do: next(t, :ets.next(t, k))

  def term(0), do: :ok

  def term(n) do
    {_} = :persistent_term.get({:key, rem(n, 1000)})
    term(n - 1)
  end

  def ordered(keys) do
    t = :ets.new(:o, [:ordered_set])
    {us, _} = :timer.tc(fn -> insert(t, keys); 1 = :ets.first(t) end)
    :ets.delete(t)
    us
  end
end

[rounds] = System.argv()
n = 200_000
up = Enum.to_list(1..n)
down = Enum.reverse(up)
:rand.seed(:exsss, {1, 2, 3})
random = Enum.shuffle(up)
for i <- 0..999, do: :persistent_term.put({:key, i}, {i})
out = fn row, us -> IO.puts("#{row}\tns\t#{us * 1000 / n}") end

run = fn out ->
  t = :ets.new(:t, [:set])
  {us, _} = :timer.tc(Bench, :insert, [t, up])
  out.("ets: insert", us)
  {us, _} = :timer.tc(Bench, :lookup, [t, n])
  out.("ets: lookup", us)
  {us, _} = :timer.tc(fn -> :ets.select(t, [{{:"$1", :"$2"}, [{:>, :"$2", n - 1000}], [:"$_"]}]) end)
  out.("ets: select, all objects", us)
  :ets.insert(t, {:hits, 0})
  {us, _} = :timer.tc(Bench, :count, [t, n])
  out.("ets: update_counter", us)
  :ets.delete(t)
  out.("ets: ordered insert, random keys", Bench.ordered(random))
  out.("ets: ordered insert, descending keys", Bench.ordered(down))
  o = :ets.new(:o, [:ordered_set])
  Bench.insert(o, up)
  {us, _} = :timer.tc(Bench, :next, [o, 1])
  out.("ets: ordered next", us)
  :ets.delete(o)
  {us, _} = :timer.tc(Bench, :term, [n])
  out.("persistent_term: get", us)
end

run.(fn _, _ -> :ok end)
for _ <- 1..String.to_integer(rounds), do: run.(out)
