/**
 * PNGs to pixels, whatever Android makes of them: of 16 bits, with one clear value, under a profile, or of an animation whose first
 * frame is not the picture that the file shows elsewhere. Source: PNG, 3rd edition.
 *
 *     val picture = decodePng(content, PictureFile.of(content))
 */
package dev.sfumato.core

import java.util.zip.DataFormatException
import java.util.zip.Inflater

/** What a PNG's chunks say; the size is that of the picture that is shown, [left] and [top] its place on the file's canvas. */
internal data class Png(
    val depth: Int,
    val colour: Int,
    val laced: Boolean,
    val height: Int,
    val width: Int,
    val left: Int = 0,
    val top: Int = 0,
    val palette: IntRange? = null,
    val clear: IntRange? = null,
    val parts: List<IntRange> = emptyList(),
) {
    val planes: Int get() = PLANES[colour]

    private companion object {
        val PLANES = intArrayOf(1, 0, 3, 1, 2, 0, 4)
    }
}

private val WHOLE = listOf(listOf(0, 0, 1, 1))
private val LACED = listOf(
    listOf(0, 0, 8, 8), listOf(0, 4, 8, 8), listOf(4, 0, 8, 4), listOf(0, 2, 4, 4), listOf(2, 0, 4, 2), listOf(0, 1, 2, 2), listOf(1, 0, 2, 1),
) // First row, first column, step down, step across

/** As stored, not turned yet; what is transparent lies over white, 16 bits are divided by 257 and rounded. */
public fun decodePng(content: ByteArray, file: PictureFile): Picture {
    val png = requireNotNull(file.png) { "this is no PNG" }
    val rgb = ByteArray(file.height * file.width * 3)
    if (png.height != file.height || png.width != file.width) rgb.fill(-1) // white around a smaller first frame
    val painter = Painter(content, png)
    val unit = maxOf(1, png.planes * png.depth / 8)
    Inflated(content, png.parts).use { stream ->
        for ((firstRow, firstColumn, down, across) in if (png.laced) LACED else WHOLE) {
            val columns = (png.width - firstColumn + across - 1) / across
            if (columns <= 0) continue
            var above = ByteArray(1 + (columns.toLong() * png.planes * png.depth + 7).div(8).toInt())
            var row = ByteArray(above.size)
            for (y in firstRow until png.height step down) {
                stream.read(row)
                unfilter(row, above, unit)
                painter.paint(row, columns, rgb, 3 * ((png.top + y) * file.width + png.left + firstColumn), 3 * across)
                above = row.also { row = above }
            }
        }
        stream.end()
    }
    return Picture(file.height, file.width, rgb)
}

/** A zlib stream in several parts of a file. */
private class Inflated(private val content: ByteArray, parts: List<IntRange>) : AutoCloseable {
    private val inflater = Inflater()
    private val rest = parts.filterNot { it.isEmpty() }.iterator()

    fun read(row: ByteArray) {
        var filled = 0
        while (filled < row.size) {
            val count = take(row, filled)
            if (count == 0) PictureFile.cut()
            filled += count
        }
    }

    /** Further rows are passed over; the stream must end, with its checksum, and nothing stand behind it. */
    fun end() {
        val more = ByteArray(1 shl 14)
        while (take(more, 0) > 0) Unit
        if (!inflater.finished()) PictureFile.cut()
        if (inflater.remaining > 0 || rest.hasNext()) PictureFile.damaged("bytes behind its pixels")
    }

    /** Bytes that were put into [out] from [at] on: none at the end. */
    private fun take(out: ByteArray, at: Int): Int {
        try {
            while (true) {
                val count = inflater.inflate(out, at, out.size - at)
                if (count > 0 || inflater.finished() || inflater.needsDictionary()) return count
                if (!rest.hasNext()) return 0
                rest.next().let { inflater.setInput(content, it.first, it.last + 1 - it.first) }
            }
        } catch (error: DataFormatException) {
            PictureFile.damaged("its pixels")
        }
    }

    override fun close() = inflater.end()
}

private fun unfilter(row: ByteArray, above: ByteArray, unit: Int) {
    val kind = row[0].unsigned
    if (kind > 4) PictureFile.damaged("a filter nobody knows")
    if (kind == 0) return
    for (i in 1 until row.size) {
        val a = if (i > unit) row[i - unit].unsigned else 0
        val b = above[i].unsigned
        val c = if (i > unit) above[i - unit].unsigned else 0
        val guess = when (kind) {
            1 -> a
            2 -> b
            3 -> (a + b) / 2
            else -> {
                val (toA, toB, toC) = Triple(Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c))
                if (toA <= toB && toA <= toC) a else if (toB <= toC) b else c
            }
        }
        row[i] = (row[i] + guess).toByte()
    }
}

private class Painter(private val content: ByteArray, private val png: Png) {
    private val most = (1 shl png.depth) - 1
    private val values = IntArray(4)
    private val gone = png.clear?.takeIf { png.colour == 0 || png.colour == 2 }?.let { range -> IntArray(png.planes) { content.short(range.first + 2 * it) } }

    /** An unfiltered row into [rgb] from [start] on, [step] bytes from a pixel to the next. */
    fun paint(row: ByteArray, columns: Int, rgb: ByteArray, start: Int, step: Int) {
        var to = start
        for (x in 0 until columns) {
            for (c in 0 until png.planes) values[c] = sample(row, x * png.planes + c)
            val alpha = alpha()
            for (c in 0..2) {
                val value = colour(c)
                rgb[to + c] = (if (alpha == 255) value else (value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
            }
            to += step
        }
    }

    private fun sample(row: ByteArray, n: Int): Int = when (png.depth) {
        16 -> row.short(1 + 2 * n)
        8 -> row[1 + n].unsigned
        else -> (row[1 + n * png.depth / 8].unsigned shr (8 - png.depth - n * png.depth % 8)) and most
    }

    private fun alpha(): Int = when {
        png.colour == 3 -> png.clear?.let { at(it, values[0]) } ?: 255
        png.colour >= 4 -> eight(values[png.planes - 1])
        gone != null && gone.indices.all { gone[it] == values[it] } -> 0
        else -> 255
    }

    private fun colour(c: Int): Int = when (png.colour) {
        3 -> png.palette?.let { at(it, 3 * values[0] + c) } ?: 0
        0, 4 -> eight(values[0])
        else -> eight(values[c])
    }

    private fun at(range: IntRange, index: Int): Int? = if (range.first + index <= range.last) content[range.first + index].unsigned else null

    private fun eight(value: Int): Int = when {
        png.depth == 16 -> (value + 128) / 257
        png.depth == 8 -> value
        else -> value * 255 / most
    }
}
