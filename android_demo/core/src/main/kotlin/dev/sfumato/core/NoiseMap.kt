package dev.sfumato.core

import kotlin.math.ln
import kotlin.math.roundToInt

private val ENTROPY = DoubleArray(256) { q ->
    val p = q / 256.0
    fun part(x: Double) = if (x == 0.0) 0.0 else -x * ln(x) / ln(2.0)
    part(p) + part(1 - p)
}

/**
 * How uncertain each pixel of the upload is, one byte each: mean entropy of its bits (dither) or mean scale (gaussian), spread over
 * 0..255; the largest in closed blocks, of which nothing is sent. At a low rate nearly every sample is close to uniform; unspread, the map would show nothing.
 */
internal fun noiseMap(q: Map<String, ByteArray>, channel: Channel): ByteArray {
    val (bytes, planes) = when (channel) {
        is Channel.Dither -> q.getValue("p") to channel.colours * channel.bits
        is Channel.Gaussian -> q.getValue("scale") to 3
        Channel.Answer -> throw SfumatoException("an answer has no map of noise")
    }
    val gray = channel is Channel.Dither && channel.gray
    val value: (Byte) -> Double = when (channel) {
        is Channel.Dither -> { b -> if (gray && b.unsigned == CERTAIN) 0.0 else ENTROPY[b.unsigned] }
        else -> { b -> b.unsigned / 256.0 }
    }
    val gates = channel is Channel.Dither && channel.gates
    val raw = DoubleArray(bytes.size / planes) { pixel ->
        val own = (0 until planes).map { bytes[pixel * planes + it] }
        if (gates && own.all { it == 0.toByte() }) 1.0 else own.sumOf(value) / planes
    }
    val low = raw.sorted()[raw.size / 500]
    val spread = maxOf(raw.max() - low, 1e-9)
    return ByteArray(raw.size) { ((raw[it] - low).coerceAtLeast(0.0) / spread * 255).roundToInt().toByte() }
}
