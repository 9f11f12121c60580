/**
 * From decoded pixels to the picture a model sees: lay over white, turn upright, crop, resize (docs/contract.md, "Picture to input").
 *
 * Cropping and resizing give the bytes of the Python code, with no tolerance: the same double-precision weights, rounded to the
 * same 22-bit integers. Decoders of lossy files may still differ by a level before that.
 *
 *     val input = Picture.fromArgb(height, width, argb).turned(orientation).fit(64, 64)
 */
package dev.sfumato.core

import java.nio.ByteBuffer

/** Anything upright of [height] rows and [width] columns that can be brought to a model's size: a [Picture], or a [YuvFrame]. */
public interface Photo {
    /** Rows, as a viewer sees it. */
    public val height: Int

    /** Columns. */
    public val width: Int

    /** Crop around the centre to the target's shape, then resize with an antialiased bilinear filter. */
    public fun fit(toHeight: Int, toWidth: Int): Picture
}

/** A picture of [height] rows and [width] columns: [rgb] bytes in the order row, column, colour. */
public class Picture(override val height: Int, override val width: Int, public val rgb: ByteArray) : Photo {
    init {
        require(height > 0 && width > 0 && rgb.size == height * width * 3) { "$height x $width does not fit ${rgb.size} bytes" }
    }

    /** Upright, by the EXIF orientation 1..8; other values leave the picture as it is. */
    public fun turned(orientation: Int): Picture = when (orientation) {
        2 -> moved(height, width) { y, x -> at(y, width - 1 - x) }
        3 -> moved(height, width) { y, x -> at(height - 1 - y, width - 1 - x) }
        4 -> moved(height, width) { y, x -> at(height - 1 - y, x) }
        5 -> moved(width, height) { y, x -> at(x, y) }
        6 -> moved(width, height) { y, x -> at(height - 1 - x, y) }
        7 -> moved(width, height) { y, x -> at(height - 1 - x, width - 1 - y) }
        8 -> moved(width, height) { y, x -> at(x, width - 1 - y) }
        else -> this
    }

    override fun fit(toHeight: Int, toWidth: Int): Picture {
        val columns = cropped(toHeight, toWidth).resizedColumns(toWidth)
        return columns.resizedRows(toHeight)
    }

    /** One plane of grey, shown in all three colours: `(19595 red + 38470 green + 7471 blue + 32768) >> 16`. What is grey stays as it is. */
    public fun grey(): Picture {
        val weights = intArrayOf(19_595, 38_470, 7_471)
        val plane = ByteArray(height * width) { i -> ((weights.indices.sumOf { weights[it] * rgb[3 * i + it].unsigned } + 32_768) shr 16).toByte() }
        return ofPlane(height, width, plane)
    }

    /** What a model of so many [planes] is fed: the bytes of all colours, or of a [grey] picture one plane. */
    internal fun bytes(planes: Int): ByteArray = if (planes == 3) rgb else ByteArray(height * width) { rgb[3 * it] }

    private fun cropped(toHeight: Int, toWidth: Int): Picture {
        val kept = Crop.around(height, width, toHeight, toWidth)
        if (kept.height == height && kept.width == width) return this
        return moved(kept.height, kept.width) { y, x -> at(kept.top + y, kept.left + x) }
    }

    private fun resizedColumns(toWidth: Int): Picture {
        if (toWidth == width) return this
        val out = ByteArray(height * toWidth * 3)
        for (x in 0 until toWidth) {
            val filter = Filter(width, toWidth, x)
            for (y in 0 until height) filter.apply(rgb, at(y, filter.first), 3, out, (y * toWidth + x) * 3)
        }
        return Picture(height, toWidth, out)
    }

    private fun resizedRows(toHeight: Int): Picture {
        if (toHeight == height) return this
        val out = ByteArray(toHeight * width * 3)
        for (y in 0 until toHeight) {
            val filter = Filter(height, toHeight, y)
            for (x in 0 until width) filter.apply(rgb, at(filter.first, x), 3 * width, out, (y * width + x) * 3)
        }
        return Picture(toHeight, width, out)
    }

    private fun at(y: Int, x: Int) = (y * width + x) * 3

    private inline fun moved(toHeight: Int, toWidth: Int, from: (Int, Int) -> Int): Picture {
        val out = ByteArray(toHeight * toWidth * 3)
        var to = 0
        for (y in 0 until toHeight) {
            for (x in 0 until toWidth) {
                val source = from(y, x)
                out[to++] = rgb[source]
                out[to++] = rgb[source + 1]
                out[to++] = rgb[source + 2]
            }
        }
        return Picture(toHeight, toWidth, out)
    }

    public companion object {
        /** The same [plane], row by row, in all three colours. */
        internal fun ofPlane(height: Int, width: Int, plane: ByteArray) = Picture(height, width, ByteArray(3 * plane.size) { plane[it / 3] })

        /** Straight (not premultiplied) ARGB words, row by row; what is transparent shows white. */
        public fun fromArgb(height: Int, width: Int, argb: IntArray): Picture {
            val rgb = ByteArray(height * width * 3)
            for (i in 0 until height * width) {
                val alpha = argb[i] ushr 24
                for (colour in 0..2) {
                    val value = (argb[i] ushr (16 - 8 * colour)) and 0xFF
                    rgb[3 * i + colour] = ((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
                }
            }
            return Picture(height, width, rgb)
        }

        /** A camera's RGBA rows, [rowStride] bytes apart. */
        public fun fromRgba(height: Int, width: Int, rgba: ByteBuffer, rowStride: Int): Picture {
            val rgb = ByteArray(height * width * 3)
            for (i in 0 until height * width) {
                val at = i / width * rowStride + i % width * 4
                for (colour in 0..2) rgb[3 * i + colour] = rgba.get(at + colour)
            }
            return Picture(height, width, rgb)
        }

        /** A decoder's RGBA rows, [rowStride] bytes apart, straight and not premultiplied; what is transparent shows white. */
        public fun overWhite(height: Int, width: Int, rgba: ByteBuffer, rowStride: Int): Picture {
            val rgb = ByteArray(height * width * 3)
            for (i in 0 until height * width) {
                val at = i / width * rowStride + i % width * 4
                val alpha = rgba.get(at + 3).unsigned
                for (colour in 0..2) rgb[3 * i + colour] = ((rgba.get(at + colour).unsigned * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
            }
            return Picture(height, width, rgb)
        }

        /**
         * By how much a JPEG's sides are divided as it is decoded: 1 up to 50 megapixels, else the first of 2, 4 and 8 that brings it
         * there while each side stays four times the target's (docs/contract.md).
         */
        public fun reduction(height: Int, width: Int, toHeight: Int, toWidth: Int): Int {
            fun fits(divisor: Int) = (height / divisor).toLong() * (width / divisor) <= PictureFile.MAX_DECODED
            for (divisor in intArrayOf(1, 2, 4, 8)) {
                if (height / divisor < 4 * toHeight || width / divisor < 4 * toWidth) break
                if (fits(divisor)) return divisor
            }
            if (fits(1)) return 1
            throw PictureException(Refusal.SIZE, "the picture has $width x $height pixels, more than can be decoded: make it smaller")
        }
    }
}

/** The part of a picture that is kept: [height] rows from [top] on, [width] columns from [left] on. */
internal data class Crop(val top: Int, val left: Int, val height: Int, val width: Int) {
    companion object {
        /** The largest part around the centre that has the target's shape. */
        fun around(height: Int, width: Int, toHeight: Int, toWidth: Int): Crop {
            if (width.toLong() * toHeight > height.toLong() * toWidth) {
                val kept = share(height, toWidth, toHeight)
                return Crop(0, (width - kept) / 2, height, kept)
            }
            val kept = share(width, toHeight, toWidth)
            return Crop((height - kept) / 2, 0, kept, width)
        }

        /** How many of [side] pixels remain at the ratio [wide] : [high], rounded, at least one. */
        private fun share(side: Int, wide: Int, high: Int): Int = maxOf(1L, (2L * side * wide + high) / (2L * high)).toInt()
    }
}

/** The weights of output [index] of [to] from [from] inputs, in 1 / 2^22. */
internal class Filter(from: Int, to: Int, index: Int) {
    val first: Int
    val weights: IntArray

    init {
        val scale = from.toDouble() / to
        val support = maxOf(scale, 1.0)
        val centre = (index + 0.5) * scale
        first = maxOf((centre - support + 0.5).toInt(), 0)
        val count = minOf((centre + support + 0.5).toInt(), from) - first
        // Multiplied by the reciprocal and not divided: the last bit of the weight must be the one that Pillow gets.
        val shrink = 1.0 / support
        val real = DoubleArray(count) { maxOf(0.0, 1.0 - Math.abs((it + first - centre + 0.5) * shrink)) }
        val sum = real.sum()
        weights = IntArray(count) { (0.5 + real[it] / sum * (1 shl PRECISION)).toInt() }
    }

    /** Three neighbouring colours from [start] on, [step] bytes from one input to the next. */
    fun apply(source: ByteArray, start: Int, step: Int, out: ByteArray, to: Int) {
        for (colour in 0..2) {
            var sum = 1 shl (PRECISION - 1)
            var from = start + colour
            for (weight in weights) {
                sum += weight * source[from].unsigned
                from += step
            }
            out[to + colour] = (sum shr PRECISION).coerceIn(0, 255).toByte()
        }
    }

    companion object {
        const val PRECISION = 22
    }
}
