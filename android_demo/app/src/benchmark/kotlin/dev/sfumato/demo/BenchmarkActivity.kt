/**
 * Measures one model in one configuration for `sfumato bench phone` and leaves bench.json (docs/benchmarks.md). In builds of
 * type `benchmark` alone: they are not debuggable, so ART optimises them as it does a release.
 *
 *     adb shell am start -W -S -n dev.sfumato.demo/.BenchmarkActivity --es model local_int8.tflite --es delegate nnapi
 *
 * What is measured stands in [Benchmark]; here is what only Android knows.
 */
package dev.sfumato.demo

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.Bundle
import android.os.PowerManager
import android.view.WindowManager
import android.widget.TextView
import dev.sfumato.core.Battery
import dev.sfumato.core.Benchmark
import dev.sfumato.core.BenchmarkMachine
import dev.sfumato.core.NetworkFactory
import dev.sfumato.core.Picture
import dev.sfumato.core.SfumatoException
import java.io.File
import java.io.IOException
import kotlin.concurrent.thread
import org.tensorflow.lite.TensorFlowLite

class BenchmarkActivity : Activity() {
    @Volatile
    private var leftFront = false
    private var started = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        setContentView(TextView(this).apply { setText(R.string.measuring) })
    }

    /** Measuring begins in front: in the background a phone gives a process less. */
    override fun onResume() {
        super.onResume()
        if (started) return
        started = true
        val asked = extras(intent)
        thread(name = "benchmark") { leave(Benchmark(PhoneMachine(this) { !leftFront }).run(asked)) }
    }

    override fun onPause() {
        leftFront = true
        super.onPause()
    }

    /** The result appears whole or not at all, which a full disk may be the reason of. */
    private fun leave(result: String) {
        val folder = sharedFolder(this)
        val part = File(folder, "bench.json.part")
        try {
            part.writeText(result)
            part.renameTo(File(folder, "bench.json"))
        } catch (error: IOException) {
            part.delete()
        }
        runOnUiThread(::finish)
    }

    @Suppress("DEPRECATION") // the typed readers would hide an extra of the wrong type
    private fun extras(intent: Intent): Map<String, Any?> {
        val given = intent.extras ?: return emptyMap()
        return given.keySet().associateWith { given.get(it) }
    }
}

/**
 * Where the app and adb's shell both read and write, without `run-as`, which wants a debuggable build. It is the folder that
 * androidx's benchmarks take (Outputs.kt): since Android 11 some phones keep Android/data from the shell.
 */
@Suppress("DEPRECATION") // for sharing files with other apps, which is not what this is for
private fun sharedFolder(context: Context): File =
    context.externalMediaDirs.firstOrNull() ?: throw IllegalStateException("the phone's shared storage is not there")

private class PhoneMachine(private val context: Context, private val front: () -> Boolean) : BenchmarkMachine {
    override val runtime = "litert ${TensorFlowLite.runtimeVersion()}"
    override val appVersion: String
        get() = context.packageManager.getPackageInfo(context.packageName, 0).versionName.orEmpty()
    override val networks: NetworkFactory = LiteRtNetworkFactory(context, ::tfliteLog)

    override fun file(name: String): ByteArray = try {
        File(sharedFolder(context), "bench/$name").readBytes()
    } catch (error: IOException) {
        throw SfumatoException("bench/$name cannot be read: ${error.reason}")
    }

    override fun decode(photo: ByteArray, height: Int, width: Int): Picture = decodePhoto(photo, height, width)

    override fun thermalStatus(): Int? =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) context.getSystemService(PowerManager::class.java).currentThermalStatus else null

    override fun battery(): Battery {
        val status = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED)) ?: return Battery(null, null, null)
        fun known(key: String): Int? = status.getIntExtra(key, Int.MIN_VALUE).takeIf { it != Int.MIN_VALUE }
        val level = known(BatteryManager.EXTRA_LEVEL)
        val scale = known(BatteryManager.EXTRA_SCALE)
        return Battery(
            percent = if (level != null && scale != null && scale > 0) 100 * level / scale else null,
            charging = known(BatteryManager.EXTRA_PLUGGED)?.let { it != 0 },
            celsius = known(BatteryManager.EXTRA_TEMPERATURE)?.let { it / 10.0 },
        )
    }

    override fun peakKilobytes(): Long? = try {
        val line = File("/proc/self/status").useLines { lines -> lines.firstOrNull { it.startsWith("VmHWM:") } }
        line?.filter(Char::isDigit)?.toLongOrNull()
    } catch (error: IOException) {
        null
    }

    override fun inForeground() = front()
}
