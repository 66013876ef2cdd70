import gc

from tidegate.cli.serving import tune_garbage_collection


def test_what_there_is_at_start_is_in_no_collection() -> None:
    thresholds = gc.get_threshold()
    try:
        tune_garbage_collection()
        assert gc.get_freeze_count() > 1000
        assert all(ours >= before for ours, before in zip(gc.get_threshold(), thresholds, strict=True))
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
