/**
 * How an upload travels: a PNG of its own bit depth, or packed bits (docs/contract.md, "Upload").
 *
 * The PNG has the chunks IHDR, IDAT and IEND and no other. Its pixels are the same on every platform; how well they are
 * compressed is up to the platform's zlib. The packed form has the same bytes everywhere.
 *
 *     val content = encodePng(levels, height = 64, width = 64, bits = 1)
 */
package dev.sfumato.core

import java.io.ByteArrayOutputStream
import java.io.DataOutputStream
import java.util.zip.CRC32
import java.util.zip.Deflater
import java.util.zip.DeflaterOutputStream

private val SIGNATURE = byteArrayOf(0x89.toByte(), 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A)
private const val GREY = 0
private const val RGB = 2
private const val STORED = Deflater.NO_COMPRESSION
private const val SMALLEST = Deflater.BEST_COMPRESSION

/** Levels in the order row, column, colour, [bits] bits each, most significant first; the last byte is filled with zeros. */
internal fun pack(levels: ByteArray, bits: Int): ByteArray = ByteArray((levels.size * bits + 7) / 8).also { packRow(levels, bits, it, 0) }

/** The PNG of an upload of [channel]. */
internal fun encodePng(levels: ByteArray, height: Int, width: Int, channel: Channel): ByteArray =
    encodePng(levels, height, width, channel.bits, channel is Channel.Dither && channel.gates, channel.colours)

/**
 * Levels (row, column, colour) as a PNG: the planes of all [colours] one below the other for 1, 2 or 4 bits, RGB for 8.
 *
 * With [gates] closed blocks take no room, so the length tells how many are open. All other dithered uploads of a size are of one length.
 */
internal fun encodePng(levels: ByteArray, height: Int, width: Int, bits: Int, gates: Boolean = false, colours: Int = 3): ByteArray {
    require(levels.size == height * width * colours) { "$height x $width does not fit ${levels.size} levels" }
    val content = ByteArrayOutputStream()
    content.write(SIGNATURE)
    if (bits == 8) {
        content.chunk("IHDR", header(width, height, 8, RGB))
        content.chunk("IDAT", smallest(levels, height, 3 * width))
    } else {
        content.chunk("IHDR", header(width, colours * height, bits, GREY))
        content.chunk("IDAT", deflate(stackedPlanes(levels, height, width, bits, colours), if (gates) SMALLEST else STORED))
    }
    content.chunk("IEND", ByteArray(0))
    return content.toByteArray()
}

private fun header(width: Int, height: Int, depth: Int, colour: Int): ByteArray {
    val content = ByteArrayOutputStream()
    with(DataOutputStream(content)) {
        writeInt(width)
        writeInt(height)
        write(byteArrayOf(depth.toByte(), colour.toByte(), 0, 0, 0))
    }
    return content.toByteArray()
}

private fun ByteArrayOutputStream.chunk(kind: String, body: ByteArray) {
    val named = kind.encodeToByteArray() + body
    val sum = CRC32().apply { update(named) }
    with(DataOutputStream(this)) {
        writeInt(body.size)
        write(named)
        writeInt(sum.value.toInt())
    }
}

/** Rows of the red, green and blue plane, or of the one there is, each after its filter byte 0. Drawn bits hold nothing a filter could predict. */
private fun stackedPlanes(levels: ByteArray, height: Int, width: Int, bits: Int, colours: Int): ByteArray {
    val stride = 1 + (width * bits + 7) / 8
    val rows = ByteArray(colours * height * stride)
    for (plane in 0 until colours) {
        for (y in 0 until height) {
            val row = ByteArray(width) { levels[(y * width + it) * colours + plane] }
            packRow(row, bits, rows, (plane * height + y) * stride + 1)
        }
    }
    return rows
}

/** Deflated RGB rows under whichever of the filters none, sub and up gives the fewest bytes. */
private fun smallest(levels: ByteArray, height: Int, stride: Int): ByteArray {
    fun filtered(kind: Int, before: (Int, Int) -> Byte): ByteArray {
        val rows = ByteArray(height * (stride + 1))
        for (y in 0 until height) {
            rows[y * (stride + 1)] = kind.toByte()
            for (i in 0 until stride) rows[y * (stride + 1) + 1 + i] = (levels[y * stride + i] - before(y, i)).toByte()
        }
        return deflate(rows)
    }
    val none = filtered(0) { _, _ -> 0 }
    val sub = filtered(1) { y, i -> if (i < 3) 0 else levels[y * stride + i - 3] }
    val up = filtered(2) { y, i -> if (y == 0) 0 else levels[(y - 1) * stride + i] }
    return listOf(none, sub, up).minBy { it.size }
}

private fun deflate(rows: ByteArray, level: Int = SMALLEST): ByteArray {
    val deflater = Deflater(level)
    val content = ByteArrayOutputStream()
    DeflaterOutputStream(content, deflater).use { it.write(rows) }
    deflater.end()
    return content.toByteArray()
}

private fun packRow(values: ByteArray, bits: Int, out: ByteArray, start: Int) {
    for (i in values.indices) {
        val at = i * bits
        val shifted = values[i].unsigned shl (8 - bits - at % 8)
        out[start + at / 8] = (out[start + at / 8].toInt() or shifted).toByte()
    }
}
