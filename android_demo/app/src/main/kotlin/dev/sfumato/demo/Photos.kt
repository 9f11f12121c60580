/** Photo files to upright pixels: the part of "Picture to input" (docs/contract.md) that is Android's. */
package dev.sfumato.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import dev.sfumato.core.Picture
import dev.sfumato.core.SfumatoException
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer

private const val MOST_BYTES = 64 shl 20
private const val MOST_PIXELS = 250_000_000L

/** Reads what the photo picker gives. */
class ContentPhotoReader(private val resolver: ContentResolver) : PhotoReader {
    override fun read(reference: String, height: Int, width: Int): Picture {
        val content = try {
            resolver.openInputStream(Uri.parse(reference))?.use(::readLimited)
        } catch (error: IOException) {
            null
        } catch (error: RuntimeException) { // the permission for this photo has ended, or its provider fails
            null
        }
        return decodePhoto(content ?: throw SfumatoException("the photo cannot be opened: choose it again"), height, width)
    }

    private fun readLimited(stream: InputStream): ByteArray {
        val content = ByteArrayOutputStream()
        val part = ByteArray(1 shl 16)
        while (true) {
            val count = stream.read(part)
            if (count < 0) return content.toByteArray()
            content.write(part, 0, count)
            if (content.size() > MOST_BYTES) throw SfumatoException("the photo is larger than 64 MB: choose a smaller one")
        }
    }
}

/** Decode, at a reduced scale where the picture is large, and turn upright. */
fun decodePhoto(content: ByteArray, height: Int, width: Int): Picture {
    val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    BitmapFactory.decodeByteArray(content, 0, content.size, options)
    if (options.outWidth <= 0 || options.outHeight <= 0) throw SfumatoException("this is no picture that Android can read")
    if (options.outWidth.toLong() * options.outHeight > MOST_PIXELS) {
        throw SfumatoException("the photo has ${options.outWidth} x ${options.outHeight} pixels: choose a smaller one")
    }
    options.inJustDecodeBounds = false
    options.inPreferredConfig = Bitmap.Config.ARGB_8888
    options.inPremultiplied = false // colours under alpha as they are stored
    options.inSampleSize = Picture.reduction(options.outHeight, options.outWidth, height, width)
    val bitmap = BitmapFactory.decodeByteArray(content, 0, content.size, options)
        ?: throw SfumatoException("the photo is damaged: choose another one")
    val picture = Picture.fromArgb(bitmap.height, bitmap.width, storedPixels(bitmap))
    bitmap.recycle()
    return picture.turned(orientation(content))
}

/** Pixels as the file has them: `getPixels` would turn those of a wide gamut, such as Display P3, into sRGB. */
private fun storedPixels(bitmap: Bitmap): IntArray {
    val argb = IntArray(bitmap.width * bitmap.height)
    if (bitmap.config != Bitmap.Config.ARGB_8888) { // such as 16 bits a colour, which have no other way
        bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return argb
    }
    val bytes = ByteBuffer.allocate(bitmap.byteCount) // red, green, blue, alpha
    bitmap.copyPixelsToBuffer(bytes)
    fun byte(at: Int) = bytes.get(at).toInt() and 0xFF
    for (i in argb.indices) {
        val at = i / bitmap.width * bitmap.rowBytes + i % bitmap.width * 4
        argb[i] = (byte(at + 3) shl 24) or (byte(at) shl 16) or (byte(at + 1) shl 8) or byte(at + 2)
    }
    return argb
}

private fun orientation(content: ByteArray): Int = try {
    ExifInterface(ByteArrayInputStream(content)).getAttributeInt(ExifInterface.TAG_ORIENTATION, 1)
} catch (error: IOException) {
    1
}

/** A picture to look at. */
fun Picture.toBitmap(): Bitmap {
    val colours = IntArray(width * height) { i ->
        (0xFF shl 24) or (byte(3 * i) shl 16) or (byte(3 * i + 1) shl 8) or byte(3 * i + 2)
    }
    return Bitmap.createBitmap(colours, width, height, Bitmap.Config.ARGB_8888)
}

private fun Picture.byte(at: Int) = rgb[at].toInt() and 0xFF
