package dev.sfumato.core

import kotlin.math.ln

private val LN2 = ln(2.0)

/** Nats of a bit of probability q / 256: its divergence from a uniform bit. */
private val NATS = DoubleArray(256) { q ->
    val p = q / 256.0
    fun entropy(x: Double) = if (x == 0.0) 0.0 else -x * ln(x)
    maxOf(LN2 - entropy(p) - entropy(1 - p), 0.0)
}

/**
 * Exact rate of one dither upload in bits (docs/contract.md, "Rate"); [q] as in [dither]. It depends on the photo: show it, do not
 * send it. For the gaussian channel the figure needs a table of 65,536 divergences, which this app does not make.
 */
fun ditherRateBits(q: ByteArray): Double = q.sumOf { NATS[it.unsigned] } / LN2
