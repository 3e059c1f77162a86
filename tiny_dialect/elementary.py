"""The coefficients of the project's exponential and logarithm (Cephes' single-precision forms).

Host and device evaluate the same polynomials in the same order, so both give the same bits; the
libraries of the two would differ in the last one. Each is within 2^-22 of the true value.
"""

LOG2_E = 1.4426950408889634
LN2_HIGH = 0.693359375
"""ln 2 with few mantissa bits, so that its product with an exponent is exact."""
LN2_LOW = -2.12194440e-4
EXP_FLOOR = -87.0
"""Below it the exponential leaves the normal floats; it is taken as exp(-87)."""

EXP_COEFFICIENTS = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
LOG_COEFFICIENTS = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
SQRT_HALF_BITS = 0x3F3504F3
ONE_BITS = 0x3F800000
MANTISSA_BITS = 23
MANTISSA_MASK = 0x007FFFFF
EXPONENT_BIAS = 127
