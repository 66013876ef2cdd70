from tidegate.engine.rates import MIN_INTERVAL_S, RateMeter


def test_the_first_reading_has_no_rate() -> None:
    assert RateMeter[str]().measure({"rx": 1000}, now=50.0) == {"rx": None}


def test_a_rate_is_growth_per_second_since_the_last_reading() -> None:
    meter = RateMeter[str]()
    meter.measure({"rx": 1000, "tx": 7}, now=50.0)
    assert meter.measure({"rx": 1500, "tx": 7}, now=52.0) == {"rx": 250.0, "tx": 0.0}
    assert meter.measure({"rx": 1600, "tx": 8}, now=53.0) == {"rx": 100.0, "tx": 1.0}


def test_a_counter_that_goes_backwards_has_no_rate_until_the_reading_after() -> None:
    meter = RateMeter[str]()
    meter.measure({"rx": 2**32 - 10}, now=1.0)
    assert meter.measure({"rx": 5}, now=2.0) == {"rx": None}
    assert meter.measure({"rx": 25}, now=3.0) == {"rx": 20.0}


def test_readings_close_together_give_the_last_rates() -> None:
    meter = RateMeter[str]()
    meter.measure({"rx": 0}, now=1.0)
    meter.measure({"rx": 100}, now=2.0)
    assert meter.measure({"rx": 10_000}, now=2.0) == {"rx": 100.0}
    assert meter.measure({"rx": 10_000}, now=2.0 + MIN_INTERVAL_S * 0.9) == {"rx": 100.0}
    # What came in between is not lost to the next rate.
    assert meter.measure({"rx": 10_100}, now=4.0) == {"rx": 5000.0}


def test_readings_at_least_the_minimum_apart_are_measured() -> None:
    meter = RateMeter[str]()
    meter.measure({"rx": 0}, now=0.0)
    assert meter.measure({"rx": 1}, now=MIN_INTERVAL_S) == {"rx": 1 / MIN_INTERVAL_S}


def test_a_reading_older_than_the_last_gives_the_last_rates() -> None:
    meter = RateMeter[str]()
    meter.measure({"rx": 0}, now=1.0)
    meter.measure({"rx": 100}, now=2.0)
    assert meter.measure({"rx": 90}, now=1.9) == {"rx": 100.0}


def test_counters_come_and_go() -> None:
    meter = RateMeter[str]()
    meter.measure({"eth0": 0, "usb0": 0}, now=1.0)
    assert meter.measure({"eth0": 1, "wlan0": 500}, now=2.0) == {"eth0": 1.0, "wlan0": None}
    assert meter.measure({"eth0": 1, "usb0": 9}, now=2.0) == {"eth0": 1.0, "usb0": None}
