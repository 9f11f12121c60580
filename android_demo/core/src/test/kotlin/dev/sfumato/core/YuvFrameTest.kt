package dev.sfumato.core

import java.nio.ByteBuffer
import kotlin.math.abs
import kotlin.random.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Against the slow way: every pixel to RGB, turned, then [Picture.fit]. Real photos are in tests/android/test_frames.py. */
class YuvFrameTest {
    /** Three planes, and how a phone may lay them out. */
    private class Sensor(val height: Int, val width: Int, random: Random, contrast: Int = 160) {
        private val across = (width + 1) / 2

        /** Bright to dark and back, with grain; within what RGB has room for unless the contrast is high. */
        val y = values(height, width, random, contrast)
        val u = values((height + 1) / 2, across, random, contrast / 4)
        val v = values((height + 1) / 2, across, random, contrast / 4)

        private fun values(rows: Int, columns: Int, random: Random, contrast: Int) = ByteArray(rows * columns) {
            val wave = Math.sin(it / columns * 0.2 + it % columns * 0.13) * contrast * 0.4
            (128 + wave + random.nextInt(-contrast / 10 - 1, contrast / 10 + 1)).toInt().coerceIn(0, 255).toByte()
        }

        fun planar() = frame(plane(y, width, width, 1), plane(u, across, across, 1), plane(v, across, across, 1))

        /** Rows padded with what must not be read, and values of u and v in turn, each seen from its own beginning. */
        fun interleaved(rotation: Int = 0): YuvFrame {
            val luma = plane(y, width, width + 13, 1)
            val rows = (height + 1) / 2
            val stride = 2 * across + 6
            val both = ByteArray((rows - 1) * stride + 2 * across) { 77 }
            for (i in u.indices) {
                both[i / across * stride + i % across * 2] = v[i]
                both[i / across * stride + i % across * 2 + 1] = u[i]
            }
            val second = ByteBuffer.wrap(both).apply { position(1) }.slice()
            return frame(luma, YuvPlane(second, stride, 2), YuvPlane(ByteBuffer.wrap(both).asReadOnlyBuffer(), stride, 2), rotation)
        }

        fun frame(y: YuvPlane, u: YuvPlane, v: YuvPlane, rotation: Int = 0) = YuvFrame(height, width, y, u, v, rotation)

        private fun plane(values: ByteArray, columns: Int, stride: Int, step: Int): YuvPlane {
            val rows = values.size / columns
            val laid = ByteBuffer.allocateDirect((rows - 1) * stride + columns) // nothing behind the last value, as on phones
            for (i in values.indices) laid.put(i / columns * stride + i % columns * step, values[i])
            return YuvPlane(laid, stride, step)
        }

        fun decoded(): Picture {
            val rgb = ByteArray(3 * height * width)
            for (i in 0 until height * width) {
                val half = i / width / 2 * across + i % width / 2
                val (blue, red) = u[half].unsigned - 128.0 to v[half].unsigned - 128.0
                val colours = listOf(1.402 * red, -0.344136 * blue - 0.714136 * red, 1.772 * blue)
                colours.forEachIndexed { c, more -> rgb[3 * i + c] = Math.round(y[i].unsigned + more).toInt().coerceIn(0, 255).toByte() }
            }
            return Picture(height, width, rgb)
        }
    }

    private fun differences(found: Picture, wanted: Picture): List<Int> {
        assertEquals(wanted.height to wanted.width, found.height to found.width)
        return wanted.rgb.indices.map { abs(found.rgb[it].unsigned - wanted.rgb[it].unsigned) }
    }

    @Test
    fun aReducedFrameIsTheReducedPictureForEveryTurnSizeAndShape() {
        val turns = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)
        val sizes = listOf(48 to 64, 47 to 65, 33 to 31, 120 to 90, 16 to 16, 7 to 30)
        for ((height, width) in sizes) for ((to, across) in listOf(16 to 16, 16 to 24, 32 to 16, 50 to 50)) {
            val sensor = Sensor(height, width, Random(height))
            for ((rotation, orientation) in turns) {
                val upright = sensor.decoded().turned(orientation)
                val frame = sensor.interleaved(rotation)
                assertEquals(upright.height to upright.width, frame.height to frame.width)
                val found = differences(frame.fit(to, across), upright.fit(to, across))
                val what = "$height x $width turned by $rotation to $to x $across"
                assertTrue("$what: ${found.max()}", found.max() <= 2)
                assertTrue("$what: ${found.average()}", found.average() < 0.5)
            }
        }
    }

    @Test
    fun howThePlanesLieDoesNotMatter() {
        for ((height, width) in listOf(40 to 60, 41 to 59, 1 to 9, 9 to 1)) {
            val sensor = Sensor(height, width, Random(3))
            assertArrayEquals(sensor.planar().fit(16, 16).rgb, sensor.interleaved().fit(16, 16).rgb)
        }
    }

    @Test
    fun aColourKeepsItsValueAtEverySize() {
        for ((y, u, v) in listOf(Triple(0, 128, 128), Triple(255, 128, 128), Triple(76, 85, 255), Triple(150, 44, 21), Triple(29, 255, 107))) {
            val planes = listOf(y, u, v).mapIndexed { i, value ->
                val (rows, columns) = if (i == 0) 31 to 45 else 16 to 23
                YuvPlane(ByteBuffer.wrap(ByteArray(rows * columns) { value.toByte() }), columns, 1)
            }
            val (luma, blue, red) = planes
            val colour = YuvFrame(31, 45, luma, blue, red).fit(16, 24).rgb.toList().chunked(3).toSet().single().map { it.unsigned }
            val wanted = listOf(y + 1.402 * (v - 128), y - 0.344136 * (u - 128) - 0.714136 * (v - 128), y + 1.772 * (u - 128))
            assertEquals(wanted.map { Math.round(it).toInt().coerceIn(0, 255) }, colour)
        }
    }

    /** Beyond what RGB holds, converting first cuts off every pixel, and this cuts off means: no tolerance holds, and no value runs over. */
    @Test
    fun coloursThatRgbHasNoRoomForAreCutOff() {
        val sensor = Sensor(64, 64, Random(5), contrast = 640)
        val found = differences(sensor.planar().fit(16, 16), sensor.decoded().fit(16, 16))
        assertTrue("${found.max()} ${found.average()}", found.max() < 128)
    }

    @Test
    fun theCameraMayHaveItsBuffersBack() {
        val bytes = ByteArray(64) { it.toByte() }
        val luma = ByteBuffer.wrap(bytes).apply { position(5) }
        val half = YuvPlane(ByteBuffer.wrap(ByteArray(16) { 128.toByte() }), 4, 1)
        val frame = YuvFrame(8, 8, YuvPlane(luma, 8, 1), half, half)
        assertEquals(5, luma.position())
        bytes.fill(0)
        assertEquals(List(64) { it }, frame.fit(8, 8).rgb.toList().chunked(3).map { it.toSet().single().unsigned })
    }

    @Test
    fun whatIsNoFrameIsRefused() {
        fun plane(bytes: Int, row: Int = 8, step: Int = 1) = YuvPlane(ByteBuffer.allocate(bytes), row, step)
        fun message(y: YuvPlane = plane(64), u: YuvPlane = plane(16, 4), v: YuvPlane = plane(16, 4), height: Int = 8, rotation: Int = 0) =
            assertThrows(IllegalArgumentException::class.java) { YuvFrame(height, 8, y, u, v, rotation) }.message
        assertEquals("a frame is turned by 0, 90, 180 or 270 degrees, not 45", message(rotation = 45))
        assertEquals("a frame has no 0 x 8 pixels", message(height = 0))
        assertEquals("plane y has 63 bytes, and 8 x 8 values need 64", message(y = plane(63)))
        assertEquals("plane v has 30 bytes, and 4 x 4 values need 31", message(v = plane(30, 8, 2)))
        assertEquals("plane u: strides of 4 and 2 do not fit rows of 4", message(u = plane(64, 4, 2)))
        assertEquals("plane u: strides of 4 and 0 do not fit rows of 4", message(u = plane(64, 4, 0)))
        assertEquals("plane y: strides of -8 and 1 do not fit rows of 8", message(y = plane(64, -8)))
    }
}
