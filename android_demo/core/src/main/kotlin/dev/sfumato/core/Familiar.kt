/**
 * Whether a photo looks like those that a model was made for, as sfumato.runtime.familiar (docs/decisions/0027): 43 numbers of the
 * picture itself, each compared with its mean and spread over ordinary photos. The largest distance counts. Nothing of it is sent.
 *
 *     contract.familiar?.unlike(input)
 */
package dev.sfumato.core

import kotlin.math.abs
import kotlin.math.ln
import kotlin.math.sqrt

/**
 * What ordinary photos are like: [means] and [spreads] of 43 numbers of a picture. A photo whose distance is above [limit] is unlike them.
 */
public data class Familiar(val means: List<Double>, val spreads: List<Double>, val limit: Double) {
    /** Whether a picture of the model's size is unlike ordinary photos. */
    public fun unlike(picture: Picture): Boolean = distance(picture) > limit

    /** How far a photo is from ordinary ones, in standard deviations of the number that is farthest off. */
    public fun distance(picture: Picture): Double =
        features(picture).withIndex().maxOf { (i, value) -> abs(value - means[i]) / spreads[i] }

    internal companion object {
        const val KEY = "familiar"

        /** The limits among a contract's [figures]; null in bundles of earlier versions. */
        fun read(figures: JsonObject): Familiar? {
            if (KEY !in figures) return null
            try {
                return readStrictly(figures.child(KEY))
            } catch (error: SfumatoException) {
                throw SfumatoException("${Contract.FILE}: the figures are damaged (${error.message}): export again")
            }
        }

        private fun readStrictly(part: JsonObject): Familiar {
            val found = Familiar(part.numbers("means"), part.numbers("spreads"), part.number("limit"))
            val (alarms, images) = part.number("alarms") to part.whole("images")
            part.refuseOthers()
            val possible = found.spreads.all { it > 0 } && found.limit > 0 && alarms > 0 && alarms < 1 && images >= 1
            return found.takeIf { possible } ?: throw SfumatoException("$KEY: impossible numbers")
        }

        private fun JsonObject.numbers(key: String): List<Double> {
            val found = list(key).map { (it as? Number)?.toDouble() ?: throw SfumatoException("$KEY: $key must be numbers") }
            return found.takeIf { it.size == FEATURES } ?: throw SfumatoException("$KEY: $key must be $FEATURES numbers")
        }
    }
}

private const val CELLS = 4
private const val FEATURES = 2 * CELLS * CELLS + 11

/** The 43 numbers of a photo, in Python's order. */
internal fun features(picture: Picture): List<Double> {
    val (height, width) = picture.height to picture.width
    fun colour(c: Int) = DoubleArray(height * width) { picture.rgb[3 * it + c].unsigned / 255.0 }
    val (red, green, blue) = List(3, ::colour)
    val grey = DoubleArray(green.size) { (red[it] + green[it] + blue[it]) / 3 }

    // The pixels of a block, as their places.
    fun block(rows: IntRange, columns: IntRange) = rows.flatMap { y -> columns.map { x -> y * width + x } }

    // Of all pixels that have so many more rows and columns after them.
    fun change(down: Int, right: Int, step: (Int) -> Double) =
        log(block(0 until height - down, 0 until width - right).map { abs(step(it)) }.average())

    fun first(next: Int) = { i: Int -> grey[i + next] - grey[i] }
    fun second(next: Int) = { i: Int -> grey[i + 2 * next] - 2 * grey[i + next] + grey[i] }
    fun edges(cell: Int, side: Int) = cell * side / CELLS until (cell + 1) * side / CELLS
    val cells = List(CELLS * CELLS) { cell -> block(edges(cell / CELLS, height), edges(cell % CELLS, width)).map(grey::get) }
    val (a, a2) = change(0, 1, first(1)) to change(0, 2, second(1))
    val (d, d2) = change(1, 0, first(width)) to change(2, 0, second(width))
    val colours = listOf(red, blue).map { values -> values.mapIndexed { i, value -> value - green[i] } }
    return cells.map { it.average() } +
        cells.map { log(deviation(it)) } +
        listOf(a, a2, d, d2, a - d, a2 - a, d2 - d) +
        colours.map { it.average() } +
        colours.map { values -> log(values.map { abs(it) }.average()) }
}

private fun deviation(values: List<Double>): Double {
    val mean = values.average()
    return sqrt(values.map { (it - mean) * (it - mean) }.average())
}

private fun log(value: Double) = ln(value + 1 / 255.0)
