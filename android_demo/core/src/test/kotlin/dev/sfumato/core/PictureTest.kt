package dev.sfumato.core

import java.nio.ByteBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

/** Shapes and obvious cases; that the bytes are Python's is tested against Python (tests/android). */
class PictureTest {
    private fun numbered(height: Int, width: Int) = Picture(height, width, ByteArray(height * width * 3) { (7 * it).toByte() })

    private fun Picture.pixel(y: Int, x: Int) = List(3) { rgb[(y * width + x) * 3 + it].toInt() and 0xFF }

    @Test
    fun theRightSizeStaysAsItIs() {
        val picture = numbered(5, 7)
        assertArrayEquals(picture.rgb, picture.fit(5, 7).rgb)
    }

    @Test
    fun onlyTheMiddleIsKept() {
        val wide = numbered(4, 10).fit(4, 4)
        for (y in 0 until 4) for (x in 0 until 4) assertEquals(numbered(4, 10).pixel(y, x + 3), wide.pixel(y, x))
        val tall = numbered(11, 4).fit(4, 4)
        for (y in 0 until 4) for (x in 0 until 4) assertEquals(numbered(11, 4).pixel(y + 3, x), tall.pixel(y, x))
    }

    @Test
    fun aFlatPictureStaysFlat() {
        for ((height, width) in listOf(1 to 1, 1 to 9, 33 to 47, 640 to 480, 3000 to 17)) {
            val flat = Picture(height, width, ByteArray(height * width * 3) { 201.toByte() })
            assertEquals(setOf(201.toByte()), flat.fit(16, 24).rgb.toSet())
        }
    }

    @Test
    fun aTurnedPictureShowsTheSameCorners() {
        val picture = numbered(2, 3)
        // The corner that a viewer sees top left, for every EXIF orientation.
        val topLeft = mapOf(1 to (0 to 0), 2 to (0 to 2), 3 to (1 to 2), 4 to (1 to 0), 5 to (0 to 0), 6 to (1 to 0), 7 to (1 to 2), 8 to (0 to 2))
        for ((orientation, corner) in topLeft) {
            val turned = picture.turned(orientation)
            assertEquals(if (orientation < 5) 2 to 3 else 3 to 2, turned.height to turned.width)
            assertEquals("orientation $orientation", picture.pixel(corner.first, corner.second), turned.pixel(0, 0))
        }
        for (orientation in 2..5) assertArrayEquals(picture.rgb, picture.turned(orientation).turned(orientation).rgb)
        assertArrayEquals(picture.rgb, picture.turned(6).turned(8).rgb)
        assertArrayEquals(picture.rgb, picture.turned(7).turned(7).rgb)
        assertArrayEquals(picture.rgb, picture.turned(99).rgb)
    }

    @Test
    fun aCamerasRowsMayBePadded() {
        val rgba = ByteBuffer.wrap(byteArrayOf(1, 2, 3, -1, 4, 5, 6, -1, 0, 0, 7, 8, 9, -1, 10, 11, 12, -1))
        assertArrayEquals(byteArrayOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), Picture.fromRgba(2, 2, rgba, rowStride = 10).rgb)
    }

    @Test
    fun onlyAVeryLargePictureIsShrunkAndEachSideStaysFourTimesTheTarget() {
        assertEquals(1, Picture.reduction(3000, 4000, 64, 64))
        assertEquals(1, Picture.reduction(6120, 8160, 64, 64)) // 49.9 megapixels
        assertEquals(2, Picture.reduction(12240, 16320, 64, 64))
        assertEquals(4, Picture.reduction(15800, 15800, 64, 64))
        assertEquals(2, Picture.reduction(2200, 30000, 275, 64))
        val refusal = assertThrows(PictureException::class.java) { Picture.reduction(2048, 30000, 512, 64) }
        assertEquals(Refusal.SIZE, refusal.refusal)
    }

    @Test
    fun whatIsTransparentShowsWhite() {
        val picture = Picture.fromArgb(1, 3, intArrayOf(0xFF102030.toInt(), 0x00102030, 0x80000000.toInt()))
        assertEquals(listOf(0x10, 0x20, 0x30), picture.pixel(0, 0))
        assertEquals(listOf(255, 255, 255), picture.pixel(0, 1))
        assertEquals(listOf(127, 127, 127), picture.pixel(0, 2))
    }
}
