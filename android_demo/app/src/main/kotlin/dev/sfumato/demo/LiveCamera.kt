/**
 * The camera's picture on the screen, and its frames, one at a time, as the sensor's planes that know how they are turned. No frame is
 * stored, and none becomes an RGB picture of its size.
 *
 * PreviewView shows the front camera as a mirror does; frames are not turned over. Preview and frames have the same field of view: where
 * no resolution is asked for, CameraX gives both 4:3.
 */
package dev.sfumato.demo

import android.content.Context
import android.content.pm.PackageManager
import android.hardware.display.DisplayManager
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import androidx.lifecycle.LifecycleOwner
import dev.sfumato.core.Photo
import dev.sfumato.core.YuvFrame
import dev.sfumato.core.YuvPlane
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executor

class LiveCamera(
    private val context: Context,
    private val owner: LifecycleOwner,
    private val shown: PreviewView,
    private val frames: Executor,
    private val onFrame: (() -> Photo) -> Unit,
    private val onFailed: (String) -> Unit,
) {
    private val displays = context.getSystemService(DisplayManager::class.java)
    private var provider: ProcessCameraProvider? = null
    private var analysis: ImageAnalysis? = null

    /** Whether the front camera is wanted; null: none is. */
    private var wanted: Boolean? = null

    /** Turned over by 180 degrees the activity stays, and the camera has to be told. */
    private val turns = object : DisplayManager.DisplayListener {
        override fun onDisplayAdded(display: Int) = Unit

        override fun onDisplayRemoved(display: Int) = Unit

        override fun onDisplayChanged(display: Int) {
            val rotation = shown.display?.rotation ?: return
            analysis?.targetRotation = rotation
        }
    }

    /** Whether there is a camera on either side. */
    val hasBoth: Boolean
        get() = listOf(PackageManager.FEATURE_CAMERA, PackageManager.FEATURE_CAMERA_FRONT).all(context.packageManager::hasSystemFeature)

    fun start(front: Boolean) {
        if (wanted == front) return
        if (wanted == null) displays.registerDisplayListener(turns, null)
        wanted = front
        val future = ProcessCameraProvider.getInstance(context)
        future.addListener({ bind { future.get() } }, ContextCompat.getMainExecutor(context))
    }

    fun stop() {
        close()
        analysis = null
        provider?.unbindAll()
    }

    /** The activity goes, and with it what is bound to its lifecycle; the system must not hold on to it. */
    fun close() {
        if (wanted != null) displays.unregisterDisplayListener(turns)
        wanted = null
    }

    private fun bind(provided: () -> ProcessCameraProvider) {
        val front = wanted ?: return
        try {
            val cameras = provided().also { provider = it }
            val preview = Preview.Builder().build()
            preview.setSurfaceProvider(shown.surfaceProvider)
            val analysed = ImageAnalysis.Builder()
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_YUV_420_888)
                .build()
            analysed.setAnalyzer(frames) { image -> image.use { onFrame { read(it) } } }
            cameras.unbindAll()
            cameras.bindToLifecycle(owner, chosen(cameras, front), preview, analysed)
            analysis = analysed
        } catch (error: ExecutionException) {
            fail(error.cause ?: error)
        } catch (error: Exception) { // no camera of this kind, none that can do it, or one that says nothing of itself
            fail(error)
        }
    }

    /** The camera that is wanted; the other one where the phone has that alone. */
    private fun chosen(cameras: ProcessCameraProvider, front: Boolean): CameraSelector {
        val sides = listOf(CameraSelector.DEFAULT_FRONT_CAMERA, CameraSelector.DEFAULT_BACK_CAMERA)
        val (first, other) = if (front) sides else sides.asReversed()
        return if (cameras.hasCamera(first)) first else other
    }

    private fun fail(error: Throwable) {
        stop()
        onFailed(error.reason)
    }

    private fun read(image: ImageProxy): YuvFrame {
        val (y, u, v) = image.planes.map { YuvPlane(it.buffer, it.rowStride, it.pixelStride) }
        return YuvFrame(image.height, image.width, y, u, v, image.imageInfo.rotationDegrees)
    }
}
