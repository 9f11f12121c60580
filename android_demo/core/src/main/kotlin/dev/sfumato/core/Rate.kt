package dev.sfumato.core

import kotlin.math.ln

private val LN2 = ln(2.0)

/** Nats of a bit of probability q / 256: its divergence from a uniform bit. */
private val NATS = DoubleArray(256) { q ->
    val p = q / 256.0
    fun entropy(x: Double) = if (x == 0.0) 0.0 else -x * ln(x)
    maxOf(LN2 - entropy(p) - entropy(1 - p), 0.0)
}

/** Nats of a bit whose byte is [q]; in [gray] code the largest byte stands for 1. */
private fun nats(q: Byte, gray: Boolean) = if (gray && q.unsigned == CERTAIN) LN2 else NATS[q.unsigned]

/**
 * Exact rate of one dither upload in bits (docs/contract.md, "Rate"); [q] and [gray] as in [dither]. It depends on the photo: show it, do not
 * send it. For the gaussian channel the figure needs a table of 65,536 divergences, which this app does not make.
 */
internal fun ditherRateBits(q: ByteArray, gray: Boolean = false): Double = q.sumOf { nats(it, gray) } / LN2

/**
 * The same where blocks can be closed: a fair coin for every block, and the bits of the open ones. All bytes of a closed block are 0.
 */
internal fun blockRateBits(q: ByteArray, height: Int, width: Int, gray: Boolean = false): Double {
    val blocks = OpenBlocks(q, height, width)
    return q.indices.sumOf { if (it in blocks) nats(q[it], gray) else 0.0 } / LN2 + blocks.count
}

/** The rate of an upload in bits; null for the gaussian channel. [q] as in [sample]. */
internal fun rateBits(channel: Channel, q: Map<String, ByteArray>, height: Int, width: Int): Double? = when {
    channel !is Channel.Dither -> null
    channel.gates -> blockRateBits(q.getValue("p"), height, width, channel.gray)
    else -> ditherRateBits(q.getValue("p"), channel.gray)
}
