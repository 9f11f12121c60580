package dev.sfumato.core

import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import javax.imageio.ImageIO
import kotlin.random.Random
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class UploadTest {
    private val random = Random(4)

    private fun levels(height: Int, width: Int, bits: Int) = ByteArray(height * width * 3) { random.nextInt(1 shl bits).toByte() }

    @Test
    fun aPngReadsBackInEveryDepth() {
        for (bits in listOf(1, 2, 4, 8)) {
            for ((height, width) in listOf(16 to 16, 17 to 19, 16 to 33)) {
                val levels = levels(height, width, bits)
                val content = encodePng(levels, height, width, bits)
                val raster = ImageIO.read(ByteArrayInputStream(content)).raster
                assertEquals(width, raster.width)
                for (i in levels.indices) {
                    val (y, x, c) = Triple(i / 3 / width, i / 3 % width, i % 3)
                    val found = if (bits == 8) raster.getSample(x, y, c) else raster.getSample(x, c * height + y, 0)
                    assertEquals(levels[i].toInt() and 0xFF, found)
                }
            }
        }
    }

    @Test
    fun theLengthTellsNothingButOfClosedBlocks() {
        for (bits in listOf(1, 2, 4)) {
            val busy = levels(32, 32, bits)
            val flat = ByteArray(busy.size)
            assertEquals(encodePng(busy, 32, 32, bits).size, encodePng(flat, 32, 32, bits).size)
            assert(encodePng(flat, 32, 32, bits, gates = true).size < encodePng(busy, 32, 32, bits, gates = true).size / 2)
        }
    }

    @Test
    fun aPngHoldsThePictureAndNothingElse() {
        for (bits in listOf(1, 8)) {
            val content = ByteBuffer.wrap(encodePng(levels(16, 16, bits), 16, 16, bits)).position(8) as ByteBuffer
            val kinds = mutableListOf<String>()
            while (content.hasRemaining()) {
                val length = content.getInt()
                kinds += String(ByteArray(4).also(content::get))
                content.position(content.position() + length + 4)
            }
            assertEquals(listOf("IHDR", "IDAT", "IEND"), kinds)
        }
    }

    @Test
    fun flatRgbIsFilteredSmall() {
        val ramp = ByteArray(64 * 64 * 3) { (it / 3 % 64 * 4).toByte() }
        assert(encodePng(ramp, 64, 64, 8).size < 400)
    }

    @Test
    fun packingEqualsALoopOverBits() {
        for (bits in listOf(1, 2, 4, 8)) {
            val levels = levels(5, 7, bits)
            val text = levels.joinToString("") { (it.toInt() and 0xFF).toString(2).padStart(bits, '0') }
            val expected = text.chunked(8).map { it.padEnd(8, '0').toInt(2).toByte() }
            assertEquals(expected, pack(levels, bits).toList())
        }
    }

    @Test
    fun theWrongAmountOfNoiseIsRefused() {
        assertThrows(SfumatoException::class.java) { dither(ByteArray(12), ByteArray(11), 1) }
        assertThrows(SfumatoException::class.java) { DeviceKey(ByteArray(31)) }
        assertThrows(SfumatoException::class.java) { NormalTable(ByteArray(131072)) }
        assertEquals("DeviceKey", KEY.toString())
    }
}
