"""What a device check must not overlook."""

import math

from tiny_pipelines.device_check import Check, DeviceCheck


def test_a_loss_that_is_not_a_number_fails_the_check():
    checker = DeviceCheck.__new__(DeviceCheck)
    checker.check = Check()
    checker._compare_loss(1.0, 1.0)
    assert checker.check.passed
    checker._compare_loss(1.0, math.nan)
    assert not checker.check.passed
