import asyncio

from serving import RawClient, serving

UPGRADE = (
    b"GET /ws?types= HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_an_upgrade_while_an_answer_is_under_way_ends_the_connection_and_leaves_nothing() -> None:
    async with serving() as served:
        client = await RawClient.open(served.port)
        client.writer.write(b"GET /api/v1/events?types=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await client.until(b"welcome")
        client.writer.write(UPGRADE)
        async with asyncio.timeout(20):
            while served.house.gateway.connections:
                await asyncio.sleep(0.005)
        await client.close()
        assert served.house.metrics.named("client_connected") == [("sse",)]
