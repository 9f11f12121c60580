/** The flavour `nnapi`: LiteRT 1.4, the last with delegates for NNAPI and GPU. Android calls NNAPI deprecated since version 15. */
package dev.sfumato.demo

import android.content.Context
import android.os.Build
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Delegation
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.SfumatoException
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.gpu.GpuDelegate
import org.tensorflow.lite.nnapi.NnApiDelegate

/** What this flavour can run a model on. */
internal val ACCELERATORS = listOf(Accelerator.CPU, Accelerator.NNAPI, Accelerator.GPU)

/** A model under a delegate; [lines] gives what TensorFlow Lite has logged since it was asked for. */
@Suppress("UNUSED_PARAMETER") // the other flavour needs a context
internal fun openAccelerated(
    model: ByteArray, accelerator: Accelerator, threads: Int, context: Context, lines: () -> List<String>,
): LocalNetwork {
    val delegate = makeDelegate(accelerator)
    try {
        val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true).addDelegate(delegate)
        return InterpreterNetwork(Interpreter(direct(model), options), Delegation.fromLog(lines(), accelerator), delegate)
    } catch (error: Throwable) {
        delegate.close()
        throw error
    }
}

private fun makeDelegate(accelerator: Accelerator): Delegate {
    if (accelerator == Accelerator.GPU) return GpuDelegate()
    // Without a vendor's driver NNAPI would run its own slow CPU code. The delegate can leave that out from Android 10 on
    // (nnapi_delegate.cc, ShouldUseTargetDevices); before, it would take nodes and run them on the CPU.
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) throw SfumatoException("NNAPI without its own CPU code begins with Android 10")
    return NnApiDelegate(NnApiDelegate.Options().setUseNnapiCpu(false))
}
