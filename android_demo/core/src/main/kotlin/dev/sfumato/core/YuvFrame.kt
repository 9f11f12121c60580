/**
 * A camera's frame in YUV_420_888, brought to a model's size without an RGB picture of the frame's size in between.
 *
 * Crop, filter and conversion are linear but for rounding and for colours that RGB has no room for. So the planes are reduced first, each at
 * its own resolution, and only what is left is converted. Docs/kotlin.md says how far that is from converting first.
 *
 *     val (y, u, v) = image.planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
 *     val frame = YuvFrame(image.height, image.width, y, u, v, image.imageInfo.rotationDegrees)
 *     image.close()
 *     perturber.perturb(frame)
 */
package dev.sfumato.core

import java.nio.Buffer
import java.nio.ByteBuffer

/**
 * A plane of a frame as Android hands it out: rows of the [buffer] begin [rowStride] bytes apart, values in them [pixelStride] bytes apart.
 * The first value is at the buffer's beginning, and behind the last one nothing needs to follow.
 */
public class YuvPlane(internal val buffer: ByteBuffer, internal val rowStride: Int, internal val pixelStride: Int)

/**
 * A frame of [storedHeight] rows and [storedWidth] columns as the sensor has it, that must be turned clockwise by [rotation] degrees to be
 * upright. [u] and [v] have a value for 2 x 2 pixels, rounded up; the matrix is that of JPEG files (BT.601, all of 0..255).
 *
 * The planes are copied: the camera may have its buffers back. Their positions are left alone. The constructor throws
 * [IllegalArgumentException] where a plane is too short or the rotation is no right angle.
 */
public class YuvFrame(
    private val storedHeight: Int,
    private val storedWidth: Int,
    y: YuvPlane,
    u: YuvPlane,
    v: YuvPlane,
    private val rotation: Int = 0,
) : Photo {
    init {
        require(storedHeight > 0 && storedWidth > 0) { "a frame has no $storedHeight x $storedWidth pixels" }
        require(rotation in ORIENTATIONS) { "a frame is turned by 0, 90, 180 or 270 degrees, not $rotation" }
    }

    private val luma = Plane.copied(y, storedHeight, storedWidth, "y")
    private val colours = listOf(u to "u", v to "v").map { (plane, name) ->
        Plane.copied(plane, (storedHeight + 1) / 2, (storedWidth + 1) / 2, name)
    }
    private val lies = rotation % 180 != 0

    override val height: Int = if (lies) storedWidth else storedHeight
    override val width: Int = if (lies) storedHeight else storedWidth

    override fun fit(toHeight: Int, toWidth: Int): Picture {
        val (rows, columns) = if (lies) toWidth to toHeight else toHeight to toWidth
        val kept = stored(Crop.around(height, width, toHeight, toWidth))
        val down = List(rows) { Taps.of(Filter(kept.height, rows, it), kept.top) }
        val across = List(columns) { Taps.of(Filter(kept.width, columns, it), kept.left) }
        val y = luma.reduced(down, across)
        val (halfDown, halfAcross) = listOf(down, across).map { it.map(Taps::halved) }
        val (u, v) = colours.map { it.reduced(halfDown, halfAcross) }
        val rgb = ByteArray(3 * rows * columns)
        for (i in y.indices) {
            val (blue, red) = u[i] - 128 to v[i] - 128
            rgb[3 * i] = level(y[i] + 1.402 * red)
            rgb[3 * i + 1] = level(y[i] - 0.344136 * blue - 0.714136 * red)
            rgb[3 * i + 2] = level(y[i] + 1.772 * blue)
        }
        return Picture(rows, columns, rgb).turned(ORIENTATIONS.getValue(rotation))
    }

    /** Where a part of the upright frame lies in the stored one. */
    private fun stored(part: Crop): Crop = when (rotation) {
        90 -> Crop(storedHeight - part.left - part.width, part.top, part.width, part.height)
        180 -> Crop(storedHeight - part.top - part.height, storedWidth - part.left - part.width, part.height, part.width)
        270 -> Crop(part.left, storedWidth - part.top - part.height, part.width, part.height)
        else -> part
    }

    private companion object {
        /** Clockwise degrees to the EXIF orientation that asks for the same turn. */
        val ORIENTATIONS = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)

        fun level(value: Double): Byte = (value + 0.5).toInt().coerceIn(0, 255).toByte()
    }
}

/** What an output is made of: inputs from [first] on, each with its weight in 1 / 2^22. */
private class Taps(val first: Int, val weights: IntArray) {
    val end get() = first + weights.size

    /** The same of a plane in which one value stands for two of these inputs. */
    fun halved(): Taps {
        val from = first / 2
        val sums = IntArray((end - 1) / 2 - from + 1)
        for (i in weights.indices) sums[(first + i) / 2 - from] += weights[i]
        return Taps(from, sums)
    }

    companion object {
        fun of(filter: Filter, offset: Int) = Taps(filter.first + offset, filter.weights)
    }
}

/** Rows of [width] bytes, one behind the other. */
private class Plane(private val width: Int, private val bytes: ByteArray) {
    /** Filtered along its rows, each row as it comes, and from row to row in sums for the outputs that are not finished. */
    fun reduced(rows: List<Taps>, columns: List<Taps>): DoubleArray {
        val sums = LongArray(rows.size * columns.size)
        val row = IntArray(columns.size)
        var unfinished = 0
        for (y in rows.first().first until rows.last().end) {
            filtered(y * width, columns, row)
            while (rows[unfinished].end <= y) unfinished++
            var out = unfinished
            while (out < rows.size && rows[out].first <= y) {
                val weight = rows[out].weights.getOrElse(y - rows[out].first) { 0 }.toLong()
                val at = out * row.size
                for (x in row.indices) sums[at + x] += weight * row[x]
                out++
            }
        }
        return DoubleArray(sums.size) { sums[it] * UNIT }
    }

    private fun filtered(start: Int, columns: List<Taps>, row: IntArray) {
        for (x in row.indices) {
            val taps = columns[x]
            var at = start + taps.first
            var sum = ROUNDING
            for (weight in taps.weights) sum += weight * bytes[at++].unsigned
            row[x] = sum shr DROPPED
        }
    }

    companion object {
        /** Bits of a filtered row that are dropped, so that its product with a weight and their sum fit into 64. */
        private const val DROPPED = 8
        private const val ROUNDING = 1 shl (DROPPED - 1)
        private const val UNIT = 1.0 / (1L shl (2 * Filter.PRECISION - DROPPED))

        fun copied(from: YuvPlane, height: Int, width: Int, name: String): Plane {
            val (row, step) = from.rowStride to from.pixelStride
            val length = (width - 1L) * step + 1
            require(step > 0 && (height == 1 || row >= length)) { "plane $name: strides of $row and $step do not fit rows of $width" }
            val needed = (height - 1L) * row + length
            val source = from.buffer.asReadOnlyBuffer() // with a position of its own
            require(source.limit() >= needed) { "plane $name has ${source.limit()} bytes, and $height x $width values need $needed" }
            val bytes = ByteArray(height * width)
            val spread = ByteArray(if (step == 1) 0 else length.toInt())
            for (y in 0 until height) {
                (source as Buffer).position(y * row) // ByteBuffer's own is unknown to older Androids
                if (step == 1) {
                    source.get(bytes, y * width, width)
                } else {
                    source.get(spread)
                    for (x in 0 until width) bytes[y * width + x] = spread[x * step]
                }
            }
            return Plane(width, bytes)
        }
    }
}
