/**
 * The flavour `litert2`: LiteRT 2, whose CompiledModel runs a model on GPU or NPU.
 *
 * Nothing falls back to the CPU. Native LiteRT refuses a model that is not wholly accelerated where the CPU is not in the set of
 * accelerators (compiled_model.cc, LiteRtCompiledModelT::Create), but its Kotlin side puts the CPU into a set that holds the NPU
 * alone (Model.kt, CompiledModel.create). NONE beside it keeps the CPU out, and natively stands for nothing
 * (litert_compiled_model_jni.cc).
 */
package dev.sfumato.demo

import android.content.Context
import com.google.ai.edge.litert.Accelerator as Hardware
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.TensorBuffer
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Delegation
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.TensorInfo
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.Interpreter

/** What this flavour can run a model on. */
internal val ACCELERATORS = listOf(Accelerator.CPU, Accelerator.GPU, Accelerator.NPU)

/** A model compiled for one accelerator; [lines] gives what TensorFlow Lite has logged since it was asked for. */
@Suppress("UNUSED_PARAMETER") // of the CPU, on which nothing runs here
internal fun openAccelerated(
    model: ByteArray, accelerator: Accelerator, threads: Int, context: Context, lines: () -> List<String>,
): LocalNetwork {
    val opened = Opened()
    try {
        val (inputs, outputs) = tensorsOf(model)
        // In Kotlin a model comes from a file or an asset, and this one was checked in memory.
        val file = File.createTempFile("model", ".tflite", context.cacheDir)
        opened.keep(AutoCloseable { file.delete() })
        file.writeBytes(model)
        val npu = accelerator == Accelerator.NPU
        val made = if (npu) Environment.create(BuiltinNpuAcceleratorProvider(context)) else Environment.create()
        val environment = opened.keep(made)
        val options = if (npu) CompiledModel.Options(Hardware.NPU, Hardware.NONE) else CompiledModel.Options(Hardware.GPU)
        val compiled = opened.keep(CompiledModel.create(file.path, options, environment))
        // Should a release ever let the CPU in after all, its delegate writes a line.
        Delegation.fromLog(lines(), Accelerator.CPU)?.let {
            throw SfumatoException("the CPU runs ${it.delegated} of ${it.nodes ?: "its"} nodes")
        }
        val ins = slots(inputs, compiled.createInputBuffers().map(opened::keep))
        val outs = slots(outputs, compiled.createOutputBuffers().map(opened::keep))
        return CompiledNetwork(compiled, ins, outs, opened)
    } catch (error: Throwable) {
        opened.close()
        throw error
    }
}

/**
 * Inputs and outputs of a model file. CompiledModel tells neither names nor scales, so the interpreter reads them in the same bytes;
 * without XNNPACK, whose line in the log would be taken for a part of the model on the CPU. It never runs.
 */
private fun tensorsOf(model: ByteArray): Pair<List<TensorInfo>, List<TensorInfo>> {
    val interpreter = Interpreter(direct(model), Interpreter.Options().setNumThreads(1).setUseXNNPACK(false))
    return InterpreterNetwork(interpreter, null).use { it.inputs to it.outputs }
}

/** A model without signatures, as exports are, has its buffers in the interpreter's order (tests/runtime/test_compiled_model.py). */
private fun slots(tensors: List<TensorInfo>, buffers: List<TensorBuffer>): List<Slot> {
    if (tensors.size != buffers.size) throw SfumatoException("it has ${buffers.size} buffers for ${tensors.size} tensors")
    return tensors.zip(buffers, ::Slot)
}

/** A tensor and its memory on the accelerator. */
private class Slot(val tensor: TensorInfo, val buffer: TensorBuffer) {
    private val size = tensor.shape.fold(1) { all, side -> all * side }

    fun write(bytes: ByteArray) = when (tensor.type) {
        "int8" -> buffer.writeInt8(bytes)
        "float32" -> {
            val floats = ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).asFloatBuffer()
            buffer.writeFloat(FloatArray(size).also(floats::get))
        }
        else -> throw unknownType()
    }

    fun read(): ByteArray {
        val bytes = when (tensor.type) {
            "int8" -> buffer.readInt8()
            "float32" -> buffer.readFloat().let { floats ->
                ByteBuffer.allocate(4 * floats.size).order(ByteOrder.nativeOrder()).also { it.asFloatBuffer().put(floats) }.array()
            }
            else -> throw unknownType()
        }
        val expected = if (tensor.type == "int8") size else 4 * size
        if (bytes.size != expected) throw SfumatoException("${tensor.name} has ${bytes.size} bytes, not $expected")
        return bytes
    }

    private fun unknownType() =
        SfumatoException("${tensor.name} is ${tensor.type}: only int8 and float32 tensors are read and written")
}

private class CompiledNetwork(
    private val model: CompiledModel,
    private val ins: List<Slot>,
    private val outs: List<Slot>,
    private val opened: Opened,
) : LocalNetwork {
    private val inputBuffers = ins.map { it.buffer }
    private val outputBuffers = outs.map { it.buffer }
    private var given = ByteArray(0)
    private var results = emptyList<ByteArray>()

    override val inputs = ins.map { it.tensor }
    override val outputs = outs.map { it.tensor }

    /** CompiledModel compiled every node for the accelerator, and says nothing of pieces. */
    override val delegation: Delegation? = null
    override val fullyAccelerated = true

    override fun fill(input: ByteArray) {
        given = input.copyOf()
    }

    /** With both copies, as the interpreter's run has them: a GPU may still be at work when `run` is back. */
    override fun invoke() {
        try {
            ins.single().write(given)
            model.run(inputBuffers, outputBuffers)
            results = outs.map { it.read() }
        } catch (error: Exception) {
            throw SfumatoException("the network failed: ${error.reason}")
        }
    }

    override fun read(): List<ByteArray> = results.map { it.copyOf() }

    override fun close() = opened.close()
}

/** What was opened, to be closed from the last to the first. */
private class Opened : AutoCloseable {
    private val kept = ArrayDeque<AutoCloseable>()

    fun <T : AutoCloseable> keep(part: T): T = part.also(kept::addFirst)

    override fun close() {
        while (kept.isNotEmpty()) kept.removeFirst().close()
    }
}
