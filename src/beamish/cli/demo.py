import asyncio

from beamish import GenServer, ServerDown, call, supervise


class Counter(GenServer[list[int]]):
    def init(self) -> list[int]:
        return [0]  # the state: made here, seen by handlers only

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += 10 // n
        return state[0]


counter = Counter("counter")  # an address; nothing runs yet


async def main() -> None:
    async with supervise([counter.child_spec()]):
        print(await counter.add(1), await counter.add(2))  # 10 15
        try:
            await counter.add(0)
        except ServerDown as down:
            print(down)  # who, which request, ZeroDivisionError, what next
        print(await counter.add(5))  # 2: restarted, with a fresh state


if __name__ == "__main__":
    asyncio.run(main())
