/** Frames of the camera, one at a time, as upright pictures. No frame is stored. */
package dev.sfumato.demo

import android.content.Context
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import androidx.lifecycle.LifecycleOwner
import dev.sfumato.core.Picture
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executor

class LiveCamera(
    private val context: Context,
    private val owner: LifecycleOwner,
    private val frames: Executor,
    private val onFrame: (() -> Picture) -> Unit,
    private val onFailed: (String) -> Unit,
) {
    private var provider: ProcessCameraProvider? = null
    private var wanted = false

    fun start() {
        if (wanted) return
        wanted = true
        val future = ProcessCameraProvider.getInstance(context)
        future.addListener({ bind { future.get() } }, ContextCompat.getMainExecutor(context))
    }

    fun stop() {
        wanted = false
        provider?.unbindAll()
    }

    private fun bind(provided: () -> ProcessCameraProvider) {
        if (!wanted) return
        try {
            val cameras = provided().also { provider = it }
            val analysis = ImageAnalysis.Builder()
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .build()
            analysis.setAnalyzer(frames) { image -> image.use { onFrame { read(it) } } }
            cameras.unbindAll()
            cameras.bindToLifecycle(owner, chosen(cameras), analysis)
        } catch (error: ExecutionException) {
            fail(error.cause ?: error)
        } catch (error: Exception) { // no camera of this kind, none that can do it, or one that says nothing of itself
            fail(error)
        }
    }

    private fun chosen(cameras: ProcessCameraProvider): CameraSelector {
        val front = CameraSelector.DEFAULT_FRONT_CAMERA
        return if (cameras.hasCamera(front)) front else CameraSelector.DEFAULT_BACK_CAMERA
    }

    private fun fail(error: Throwable) {
        wanted = false
        onFailed(error.reason)
    }

    private fun read(image: ImageProxy): Picture {
        val plane = image.planes.first()
        val picture = Picture.fromRgba(image.height, image.width, plane.buffer, plane.rowStride)
        return picture.turned(ORIENTATIONS[image.imageInfo.rotationDegrees] ?: 1)
    }

    private companion object {
        /** Clockwise degrees to the EXIF orientation that asks for the same turn. */
        val ORIENTATIONS = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)
    }
}
