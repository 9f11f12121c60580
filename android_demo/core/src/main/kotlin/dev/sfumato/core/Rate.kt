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

/**
 * The same where blocks can be closed: a fair coin for every block, and the bits of the open ones. All bytes of a closed block are 0.
 */
fun blockRateBits(q: ByteArray, height: Int, width: Int): Double {
    val blocks = OpenBlocks(q, height, width)
    return q.indices.sumOf { if (it in blocks) NATS[q[it].unsigned] else 0.0 } / LN2 + blocks.count
}

/** The rate of an upload in bits; null for the gaussian channel. [q] as in [sample]. */
fun rateBits(channel: Channel, q: Map<String, ByteArray>, height: Int, width: Int): Double? = when {
    channel !is Channel.Dither -> null
    channel.gates -> blockRateBits(q.getValue("p"), height, width)
    else -> ditherRateBits(q.getValue("p"))
}
