/**
 * Sampler 2 (docs/contract.md, "Index"): an upload is the number of an entry of a public book, drawn with keyed noise. In
 * double precision; the order of operations is part of the definition.
 *
 *     val code = checkNotNull(contract.code)
 *     val index = code.draw(q, noise)              // code.noiseBytes of them
 *     val levels = code.levels(index)
 */
package dev.sfumato.core

import kotlin.math.ceil
import kotlin.math.log2

private const val VALUES = 65536.0
private const val LEAST = 0.25

/**
 * What the contract says of the book: [bits] of an index, the [power] to which the draw follows the channel, and the [memory], bits before a
 * pixel's own that it depends on.
 */
public data class IndexSpec(val bits: Int, val power: Int, val memory: Int)

/**
 * The book of uploads of [height] x [width] pixels with [planes] bits each; [gray] as in [dither]. No photo tells more than [bits].
 */
internal class IndexCode(
    private val height: Int,
    private val width: Int,
    private val planes: Int,
    private val bits: Int,
    private val gray: Boolean,
    private val power: Int,
    private val memory: Int,
) {
    private val states = 1 shl memory
    private val steps = height * width

    /** Bytes of an upload. */
    private val size = (bits + 7) / 8

    /** Noise bytes of a draw: two for the last state and two a step. */
    val noiseBytes get() = 2 * (steps + 1)

    /** How many bits of the index lie before a step. */
    private fun end(step: Int) = (bits.toLong() * step / steps).toInt()

    /** The pixel of a step. */
    private val order: IntArray = run {
        var stride = (5 * steps + 7) / 8
        while (common(stride, steps) > 1) stride++
        IntArray(steps) { (it.toLong() * stride % steps).toInt() }
    }

    private tailrec fun common(a: Int, b: Int): Int = if (b == 0) a else common(b, a % b)

    /** The value of a pixel for a step and register (lowbias32, Wellons, 2018). */
    private fun value(step: Int, register: Int): Int {
        var x = (step shl 16) or register
        x = (x xor (x ushr 16)) * 0x7feb352d
        x = (x xor (x ushr 15)) * 0x846ca68b.toInt()
        return (x xor (x ushr 16)) ushr (32 - planes)
    }

    /** Weight of each value of the pixel of a step. */
    private fun weights(q: ByteArray, step: Int): DoubleArray {
        val weights = DoubleArray(1 shl planes)
        weights[0] = 1.0
        for (plane in 0 until planes) {
            val byte = q[planes * order[step] + plane].unsigned
            val one = (if (gray && byte == CERTAIN) 256.0 else byte.toDouble()).coerceIn(LEAST, 256 - LEAST) / 256
            val half = 1 shl plane
            for (value in 0 until half) {
                weights[half + value] = weights[value] * one
                weights[value] *= 1 - one
            }
        }
        if (power == 2) for (i in weights.indices) weights[i] *= weights[i]
        return weights
    }

    /** Multiply by the power of two that brings the largest to 0.5 .. 1. */
    private fun scale(values: DoubleArray) {
        val largest = values.max()
        var unit = 1.0
        while (largest * unit < 0.5) unit *= 2
        while (largest * unit >= 1) unit /= 2
        for (i in values.indices) values[i] *= unit
    }

    /**
     * The sums before each step and after the last; [watch] is told what each step added up, by register, in an array that the next
     * step fills again.
     */
    private inline fun forward(weights: List<DoubleArray>, watch: (each: DoubleArray, taken: Int) -> Unit = { _, _ -> }): List<DoubleArray> {
        val all = mutableListOf(DoubleArray(states).also { it[0] = 1.0 })
        var each = DoubleArray(0)
        for (step in 0 until steps) {
            val taken = end(step + 1) - end(step)
            val (before, next, weight) = Triple(all.last(), DoubleArray(states), weights[step])
            if (each.size != states shl taken) each = DoubleArray(states shl taken)
            // Registers that share their upper bits come from one sum.
            var register = 0
            for (upper in 0 until (each.size shr taken)) {
                val sum = before[upper]
                repeat(1 shl taken) {
                    val one = sum * weight[value(step, register)]
                    each[register] = one
                    next[register and (states - 1)] += one
                    register++
                }
            }
            watch(each, taken)
            scale(next)
            all += next
        }
        return all
    }

    /** The index of a picture with the probabilities [q]. */
    fun draw(q: ByteArray, noise: ByteArray): ByteArray {
        requireNoise(noise, noiseBytes)
        val weights = List(steps) { weights(q, it) }
        val sums = forward(weights)
        val index = ByteArray(size)
        var state = choose(sums.last(), noise, 0)
        for (step in steps - 1 downTo 0) {
            val end = end(step + 1)
            val taken = end - end(step)
            val each = DoubleArray(1 shl taken) {
                val register = state + states * it
                sums[step][register shr taken] * weights[step][value(step, register)]
            }
            val register = state + states * choose(each, noise, 2 * (steps - step))
            for (bit in 0 until taken) {
                val at = end - 1 - bit
                index[at / 8] = (index[at / 8].toInt() or ((register shr bit and 1) shl (7 - at % 8))).toByte()
            }
            state = register shr taken
        }
        return index
    }

    /** The first whose cumulative sum is above u total / 65536, for the noise u at [at]. */
    private fun choose(each: DoubleArray, noise: ByteArray, at: Int): Int {
        val place = (noise[at].unsigned + 256 * noise[at + 1].unsigned) * each.sum() / VALUES
        var reached = 0.0
        return each.indices.first { i ->
            reached += each[i]
            reached > place
        }
    }

    /** The bits of the book without the entropy of the draw: the most that this picture's index tells. Show it, do not send it. */
    fun rateBits(q: ByteArray): Double {
        var entropy = DoubleArray(states) // of the ways to each state
        val sums = forward(List(steps) { weights(q, it) }) { each, taken ->
            val before = entropy
            entropy = DoubleArray(states) { state ->
                mixed(1 shl taken, { each[state + states * it] }, { before[(state + states * it) shr taken] })
            }
        }
        val last = sums.last()
        return bits - mixed(states, { last[it] }, { entropy[it] })
    }

    /** Entropy of a choice among weights, as [choose] makes it, and of what lies behind each. */
    private inline fun mixed(count: Int, weight: (Int) -> Double, behind: (Int) -> Double): Double {
        var total = 0.0
        for (i in 0 until count) total += weight(i)
        if (total == 0.0) return 0.0
        var (reached, below, sum) = Triple(0.0, 0.0, 0.0)
        for (i in 0 until count) {
            reached += weight(i)
            val upTo = ceil(reached * VALUES / total)
            val share = (upTo - below) / VALUES
            if (share > 0) sum += share * (behind(i) - log2(share))
            below = upTo
        }
        return sum
    }

    /** The entry of the book: levels in the order row, column, colour. */
    fun levels(index: ByteArray): ByteArray {
        if (index.size != size) throw SfumatoException("the index has ${index.size} bytes; this model takes $size")
        fun bit(at: Int) = if (at < 0) 0 else index[at / 8].unsigned shr (7 - at % 8) and 1
        if ((bits until 8 * size).any { bit(it) == 1 }) throw SfumatoException("the index's last byte is not filled with zeros")
        val levels = ByteArray(3 * steps)
        for (step in 0 until steps) {
            val register = (end(step) - memory until end(step + 1)).fold(0) { before, at -> 2 * before + bit(at) }
            val value = value(step, register)
            for (colour in 0 until 3) {
                val level = (colour until planes step 3).fold(0) { level, plane ->
                    val drawn = value shr plane and 1
                    2 * level + if (gray) drawn xor (level and 1) else drawn
                }
                levels[3 * order[step] + colour] = level.toByte()
            }
        }
        return levels
    }
}
