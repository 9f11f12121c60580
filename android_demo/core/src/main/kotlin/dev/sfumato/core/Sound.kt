/**
 * From a recording to the picture a model sees: resample, level, centre, log-mel energies (docs/contract.md, "Sound to picture").
 *
 * The bytes are those of the Python code and of the page, with no tolerance: all sums are sums of whole numbers, and tables are
 * rounded to whole numbers far from a half.
 *
 *     val input = soundPicture(Recording.ofWav(content), 48, 64)
 */
package dev.sfumato.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.cos
import kotlin.math.floor
import kotlin.math.pow
import kotlin.math.sin

private const val RATE = 8000
private const val WINDOW = 256
private const val HOP = 96
private const val LOWEST = 6
private const val STEPS = 10
private const val QUIETEST = 256

/** What a contract's `sound` must say. */
internal val RECIPE = mapOf(
    "version" to 1, "rate" to RATE, "window" to WINDOW, "hop" to HOP, "lowest" to LOWEST, "steps" to STEPS, "quietest" to QUIETEST,
)
internal const val MOST_BANDS = 64
private const val CROSSINGS = 16
private const val BINS = WINDOW / 2 + 1
private const val HALF = 1L shl 15

private val COSINE = LongArray(WINDOW) { rounded(HALF * cos(2 * PI * it / WINDOW)) }
private val HANN = LongArray(WINDOW) { rounded(HALF * (0.5 - 0.5 * cos(2 * PI * it / WINDOW))) }

/** Energies from which on a byte is at least 1, 2 and so on. */
private val THRESHOLDS = LongArray(255) { rounded(65536 * 2.0.pow((it + 1) % STEPS / STEPS.toDouble())) shl (LOWEST + (it + 1) / STEPS) }

/** To the nearest; halves never occur. */
private fun rounded(value: Double): Long = floor(value + 0.5).toLong()

/** The picture of [recording]: [height] mel bands, the highest first, and [width] frames, in three equal colours. */
public fun soundPicture(recording: Recording, height: Int, width: Int): Picture {
    if (height !in 1..MOST_BANDS) throw SfumatoException("a picture of sound has 1 to $MOST_BANDS rows, not $height")
    val samples = centred(level(resampled(recording)), (width - 1) * HOP + WINDOW)
    val bands = List(height) { Band(it, height) }
    val rgb = ByteArray(3 * height * width)
    for (frame in 0 until width) {
        val powers = spectrum(samples, frame * HOP)
        for ((number, band) in bands.withIndex()) {
            val at = 3 * ((height - 1 - number) * width + frame)
            rgb.fill(byteOf(band.energy(powers)).toByte(), at, at + 3)
        }
    }
    return Picture(height, width, rgb)
}

/** The samples at the recipe's rate: a windowed sinc. */
private fun resampled(recording: Recording): LongArray {
    val (rate, samples) = recording.rate to recording.samples
    if (rate == RATE) return LongArray(samples.size) { samples[it].toLong() }
    val reach = CROSSINGS * rate / RATE + 1
    val tables = HashMap<Int, LongArray>()
    return LongArray(maxOf(1L, samples.size.toLong() * RATE / rate).toInt()) { i ->
        val place = (i.toLong() * rate / RATE).toInt() // of the last input at or before the output
        val behind = (i.toLong() * rate % RATE).toInt()
        val taps = tables.getOrPut(behind) { LongArray(2 * reach + 1) { tap(((it - reach) * RATE - behind) / rate.toDouble(), rate) } }
        var sum = 1L shl 19
        for (j in maxOf(-reach, -place)..minOf(reach, samples.size - 1 - place)) sum += taps[j + reach] * samples[place + j]
        (sum shr 20).coerceIn(-HALF, HALF - 1)
    }
}

private fun tap(t: Double, rate: Int): Long {
    if (abs(t) >= CROSSINGS) return 0
    val sinc = if (t == 0.0) 1.0 else sin(PI * t) / (PI * t)
    val window = cos(PI * t / (2 * CROSSINGS))
    return rounded((1 shl 20) * (RATE / rate.toDouble()) * sinc * window * window)
}

private fun level(samples: LongArray): LongArray {
    val peak = maxOf(QUIETEST.toLong(), samples.maxOf { abs(it) })
    return LongArray(samples.size) { Math.floorDiv(2 * 32767 * samples[it] + peak, 2 * peak) }
}

/** [length] samples around the centre of energy. */
private fun centred(samples: LongArray, length: Int): LongArray {
    var total = 0L
    var weighted = 0L
    for (at in samples.indices step HOP) {
        val energy = (at until minOf(at + HOP, samples.size)).sumOf { samples[it] * samples[it] } shr 16
        total += energy
        weighted += (at + HOP / 2) * energy
    }
    val start = (if (total > 0) (weighted / total).toInt() else samples.size / 2) - length / 2
    return LongArray(length) { samples.getOrElse(start + it) { 0L } }
}

/** Powers of the frequencies of the frame that begins at [start]. */
private fun spectrum(samples: LongArray, start: Int): LongArray {
    val windowed = LongArray(WINDOW) { (samples[start + it] * HANN[it] + HALF / 2) shr 15 }
    return LongArray(BINS) { k ->
        var real = HALF / 2
        var imaginary = HALF / 2
        for (n in 0 until WINDOW) {
            real += windowed[n] * COSINE[k * n % WINDOW]
            imaginary += windowed[n] * COSINE[(k * n + 3 * WINDOW / 4) % WINDOW] // the sine
        }
        (real shr 15) * (real shr 15) + (imaginary shr 15) * (imaginary shr 15)
    }
}

/** The triangle of the band [number] of [bands], the lowest first. */
private class Band(number: Int, bands: Int) {
    private val corners = List(3) { 700 * ((47 / 7.0).pow((number + it) / (bands + 1.0)) - 1) * WINDOW / RATE }
    private val first = maxOf(0, ceil(corners[0]).toInt())
    private val weights = LongArray(minOf(BINS - 1, floor(corners[2]).toInt()) - first + 1) {
        val (low, centre, high) = corners
        val bin = first + it
        rounded(256 * maxOf(0.0, minOf((bin - low) / (centre - low), (high - bin) / (high - centre))))
    }

    fun energy(powers: LongArray): Long = weights.indices.sumOf { weights[it] * powers[first + it] }
}

private fun byteOf(energy: Long): Int {
    val found = THRESHOLDS.binarySearch(energy)
    return if (found >= 0) found + 1 else -found - 1
}
