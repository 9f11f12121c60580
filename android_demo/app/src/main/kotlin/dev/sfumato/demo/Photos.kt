/** Photo files to upright pixels: the part of "Picture to input" (docs/contract.md) that is Android's. */
package dev.sfumato.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import dev.sfumato.core.Picture
import dev.sfumato.core.PictureException
import dev.sfumato.core.PictureFile
import dev.sfumato.core.Refusal
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.decodePng
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer

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
            PictureFile.checkBytes(content.size().toLong())
        }
    }
}

/**
 * Decode and turn upright. The core decides what is refused and which way is up, and decodes PNGs itself; Android decodes the rest.
 * AVIF and HEIC have their turn in the container, which the platform's ExifInterface reads.
 */
fun decodePhoto(content: ByteArray, height: Int, width: Int): Picture = try {
    val file = PictureFile.of(content)
    when (file.kind) {
        PictureFile.Kind.PNG -> decodePng(content, file).turned(file.orientation)
        PictureFile.Kind.AVIF, PictureFile.Kind.HEIF -> decodeByAndroid(content, 1).turned(orientation(content))
        else -> decodeByAndroid(content, file.reduction(height, width)).turned(file.orientation)
    }
} catch (error: OutOfMemoryError) {
    throw PictureException(Refusal.SIZE, "the photo is too large for this phone: choose a smaller one")
}

private fun decodeByAndroid(content: ByteArray, reduction: Int): Picture {
    val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    BitmapFactory.decodeByteArray(content, 0, content.size, options)
    if (options.outWidth <= 0 || options.outHeight <= 0) throw PictureException(Refusal.KIND, "this is no picture that Android can read")
    val most = if (reduction > 1) PictureFile.MAX_PIXELS else PictureFile.MAX_DECODED
    PictureFile.checkSize(options.outHeight.toLong(), options.outWidth.toLong(), most)
    options.inJustDecodeBounds = false
    options.inPreferredConfig = Bitmap.Config.ARGB_8888
    options.inPremultiplied = false // colours under alpha as they are stored
    options.inSampleSize = reduction
    val bitmap = BitmapFactory.decodeByteArray(content, 0, content.size, options)
        ?: throw PictureException(Refusal.DAMAGED, "the photo is damaged: choose another one")
    return storedPixels(bitmap).also { bitmap.recycle() }
}

/** Pixels as the file has them: `getPixels` would turn those of a wide gamut, such as Display P3, into sRGB. */
private fun storedPixels(bitmap: Bitmap): Picture {
    if (bitmap.config != Bitmap.Config.ARGB_8888) { // such as 16 bits a colour, which have no other way
        val argb = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Picture.fromArgb(bitmap.height, bitmap.width, argb)
    }
    val bytes = ByteBuffer.allocate(bitmap.byteCount) // red, green, blue, alpha
    bitmap.copyPixelsToBuffer(bytes)
    return Picture.overWhite(bitmap.height, bitmap.width, bytes, bitmap.rowBytes)
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
