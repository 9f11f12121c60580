/** Gives the upload, as the picture that is shown, to the system's share sheet. Nothing else of a photo goes there. */
package dev.sfumato.demo

import android.content.Context
import android.content.Intent
import android.graphics.Bitmap
import androidx.core.content.FileProvider
import dev.sfumato.core.Picture
import java.io.ByteArrayOutputStream
import java.io.File

/** The share sheet for what was [drawn]. */
fun shareSheet(context: Context, drawn: Picture): Intent {
    val png = ByteArrayOutputStream().also { drawn.toBitmap().compress(Bitmap.CompressFormat.PNG, 100, it) }
    val file = keepShared(File(context.cacheDir, "shared"), png.toByteArray())
    val address = FileProvider.getUriForFile(context, "${context.packageName}.shared", file)
    val send = Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, address)
    return Intent.createChooser(send.addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION), null)
}

/** The only file of a [folder] of its own: what was shared before is gone. */
fun keepShared(folder: File, png: ByteArray): File {
    folder.deleteRecursively()
    folder.mkdirs()
    return File(folder, "upload.png").apply { writeBytes(png) }
}
