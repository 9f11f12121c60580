/**
 * The sampler, version 1 (docs/contract.md): from the model's bytes and noise bytes to the levels of the upload, in integers.
 *
 * Arrays are in memory order (row, column, plane). A parameter byte q counts 0..255 and stands for q / 256. Levels are one byte a
 * colour sample.
 *
 *     val levels = dither(q, noise, bits = 1)
 */
package dev.sfumato.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

internal val Byte.unsigned: Int get() = toInt() and 0xFF

/** int8 and q (and pixel and int8 input) differ in the top bit alone. */
internal fun flipTopBit(bytes: ByteArray): ByteArray = ByteArray(bytes.size) { (bytes[it].toInt() xor 0x80).toByte() }

/** Draw the levels of one picture from the parameters q of a contract's outputs; [table] is needed for gaussian channels. */
internal fun sample(channel: Channel, picture: Picture, q: Map<String, ByteArray>, noise: ByteArray, table: NormalTable?): ByteArray =
    when (channel) {
        is Channel.Dither -> dither(q.getValue("p"), noise, channel.bits, channel.gray, channel.colours)
        is Channel.Gaussian -> {
            val mean = if (channel.additive) picture.rgb else q.getValue("mean")
            gaussian(mean, q.getValue("scale"), noise, channel, checkNotNull(table))
        }
        Channel.Answer -> throw SfumatoException("an answer is a word, not drawn sample by sample")
    }

/** The strength that changes nothing. */
public const val FULL_STRENGTH: Int = 128

/**
 * The parameters that a dither channel draws from at a [strength] of 1 to 128: in open blocks every probability is drawn towards a fair
 * coin, closed blocks stay closed.
 */
internal fun atStrength(channel: Channel, q: Map<String, ByteArray>, strength: Int, height: Int, width: Int): Map<String, ByteArray> {
    if (strength == FULL_STRENGTH) return q
    val p = q.getValue("p")
    val blocks = if (channel is Channel.Dither && channel.gates) OpenBlocks(p, height, width) else null
    fun drawn(byte: Byte) = (128 + (((byte.unsigned - 128) * strength + 64) shr 7)).toByte()
    return mapOf("p" to ByteArray(p.size) { if (blocks == null || it in blocks) drawn(p[it]) else p[it] })
}

/** With a Gray code this byte stands for 1, not for 255/256. */
internal const val CERTAIN = 255

/** Height and width of a block that can be closed, in pixels. */
private const val BLOCK = 8

/** Which bytes of [q] lie in open blocks: all bytes of a closed one are 0. */
internal class OpenBlocks(q: ByteArray, height: Int, private val width: Int) {
    private val planes = q.size / (height * width)
    private val across = width / BLOCK
    private val open = BooleanArray(height / BLOCK * across)

    /** How many blocks there are, open and closed. */
    val count get() = open.size

    init {
        for (i in q.indices) if (q[i] != 0.toByte()) open[blockOf(i)] = true
    }

    operator fun contains(i: Int) = open[blockOf(i)]

    private fun blockOf(i: Int): Int {
        val pixel = i / planes
        return pixel / width / BLOCK * across + pixel % width / BLOCK
    }
}

/**
 * Draw levels 0 .. 2^[bits] - 1: plane [colours] j + c of [q] is bit j of colour c, bit 0 the most significant. In [gray] code each bit of the
 * level is the exclusive or of the drawn ones up to it, and a byte of 255 stands for 1.
 */
internal fun dither(q: ByteArray, noise: ByteArray, bits: Int, gray: Boolean = false, colours: Int = 3): ByteArray {
    requireNoise(noise, q.size)
    val planes = colours * bits
    return ByteArray(q.size / bits) { sample ->
        val first = sample / colours * planes + sample % colours
        var level = 0
        for (bit in 0 until bits) {
            val at = first + colours * bit
            val drawn = if (noise[at].unsigned < q[at].unsigned || gray && q[at].unsigned == CERTAIN) 1 else 0
            level = 2 * level + if (gray) drawn xor (level and 1) else drawn
        }
        level.toByte()
    }
}

/** Draw levels 0..255. [mean] holds the model's mean bytes, or the pixels where the noise is additive. */
internal fun gaussian(mean: ByteArray, scale: ByteArray, noise: ByteArray, channel: Channel.Gaussian, table: NormalTable): ByteArray {
    requireNoise(noise, 2 * mean.size)
    val factor = gaussianFactor(channel.largestScale)
    val unit = if (channel.additive) 65536 else 65280
    return ByteArray(mean.size) { i ->
        val normal = table[noise[2 * i].unsigned + 256 * noise[2 * i + 1].unsigned]
        val drawn = (mean[i].unsigned * unit + scale[i].unsigned * normal * factor + 32768) shr 16
        drawn.coerceIn(0, 255).toByte()
    }
}

/** K = 16 * largest_scale: beyond 16 the products leave 32 bits. */
internal fun gaussianFactor(largestScale: Double): Int {
    val factor = 16 * largestScale
    if (factor <= 0 || factor > 256 || factor != Math.floor(factor)) {
        throw SfumatoException("largest_scale must be a multiple of 1/16 up to 16, not $largestScale")
    }
    return factor.toInt()
}

/** normal_table.bin: 65,536 standard normal quantiles in 1/4080 deviation, the same on every platform. */
internal class NormalTable(content: ByteArray) {
    private val values = ShortArray(SIZE)

    init {
        if (sha256(content) != SHA256) throw SfumatoException("$FILE is not the table of version 1: export again")
        ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer().get(values)
    }

    internal operator fun get(u: Int): Int = values[u].toInt()

    companion object {
        const val FILE = "normal_table.bin"
        const val SHA256 = "43d03e095117a1d0df720e7f5af5df75e619f6584463c3904b9a1139c8a0cfd3"
        private const val SIZE = 65536
    }
}

internal fun requireNoise(noise: ByteArray, expected: Int) {
    if (noise.size != expected) throw SfumatoException("this draw needs $expected noise bytes, not ${noise.size}")
}
