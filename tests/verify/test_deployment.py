"""Before each scenario everything is fresh, also where a hint found a source that was being asked."""

import pytest

from tidegate.verify import deployment
from tidegate.verify.deployment import Deployment
from tidegate.verify.endpoints import BreakerStatus, GatewayApi, GatewayStatus, ProxyApi, SourceStatus


class HealedProxy(ProxyApi):
    """Has no fault to switch off."""

    def __init__(self) -> None: ...

    async def clear(self, kind: object = None) -> None: ...

    async def release(self, count: int | None = None) -> None: ...


class AskingGateway(GatewayApi):
    """Its only source was being asked when the first hint came: it is fresh from the second hint on."""

    def __init__(self) -> None:
        self.hints = 0

    async def poll(self, backend: str) -> None:
        self.hints += 1

    async def breaker(self, name: str) -> BreakerStatus:
        (breaker,) = (await self.status()).breakers
        return breaker

    async def status(self) -> GatewayStatus:
        breaker = BreakerStatus(
            name="engine",
            state="closed",
            forced=False,
            failure_count=0,
            success_count=0,
            open_count=0,
            open_max_s=4.0,
            half_open_successes=1,
            retry_at=None,
        )
        source = SourceStatus(
            type="system.status",
            backend="engine",
            interval_s=60.0,
            timeout_s=1.0,
            stale=self.hints < 2,
            as_of=None,
            error_code=None,
        )
        return GatewayStatus(epoch="e", seq=1, sources=[source], breakers=[breaker])


async def test_what_is_still_stale_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "HINT_EVERY_S", 0.01)
    gateway = AskingGateway()
    target = Deployment(gateway=gateway, proxy=HealedProxy(), backend="engine", status=await gateway.status())
    await target.recover()
    assert gateway.hints == 2
