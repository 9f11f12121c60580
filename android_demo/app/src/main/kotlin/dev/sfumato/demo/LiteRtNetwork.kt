/**
 * LiteRT as a [LocalNetwork]: the CPU here, by the interpreter with XNNPACK, everything else in Accelerators.kt of the app's flavour.
 * Never one in place of another.
 *
 *     val network = LiteRtNetworkFactory(context, ::tfliteLog).open(model, Accelerator.GPU, threads = 1)
 */
package dev.sfumato.demo

import android.content.Context
import android.util.Log
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Delegation
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.NetworkFactory
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.TensorInfo
import java.io.IOException
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.UUID
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** Opens models; [log] gives TensorFlow Lite's lines so far, oldest first. */
class LiteRtNetworkFactory(private val context: Context, private val log: () -> List<String>) : NetworkFactory {
    override fun open(model: ByteArray, accelerator: Accelerator, threads: Int): LocalNetwork = try {
        load(model, accelerator, threads)
    } catch (error: Exception) { // LiteRtException among them, which is checked
        throw refusal(accelerator, error)
    } catch (error: LinkageError) { // the library is not made for this phone's processor
        throw refusal(accelerator, error)
    }

    private fun load(model: ByteArray, accelerator: Accelerator, threads: Int): LocalNetwork {
        if (accelerator !in ACCELERATORS) throw SfumatoException("this flavour of the app has ${ACCELERATORS.joinToString()} only")
        // Lines from here on: what an earlier network of this app wrote is not taken for this one's.
        val mark = "sfumato loads a network, ${UUID.randomUUID()}"
        Log.i("tflite", mark)
        val lines = { log().dropWhile { mark !in it } }
        if (accelerator != Accelerator.CPU) return openAccelerated(model, accelerator, threads, context, lines)
        val interpreter = Interpreter(direct(model), Interpreter.Options().setNumThreads(threads).setUseXNNPACK(true))
        return InterpreterNetwork(interpreter, Delegation.fromLog(lines(), accelerator))
    }

    private fun refusal(accelerator: Accelerator, error: Throwable) =
        SfumatoException("$accelerator refuses this model: ${error.reason}".lines().joinToString(" "))
}

/** A model in the interpreter; [delegate] is closed with it. */
internal class InterpreterNetwork(
    private val interpreter: Interpreter,
    override val delegation: Delegation?,
    private val delegate: AutoCloseable? = null,
) : LocalNetwork {
    private val inputTensors = List(interpreter.inputTensorCount, interpreter::getInputTensor)
    private val outputTensors = List(interpreter.outputTensorCount, interpreter::getOutputTensor)
    private val input = direct(inputTensors.first().numBytes())
    private val results = outputTensors.map { direct(it.numBytes()) }
    private val inputArray = arrayOf<Any>(input)
    private val resultMap: Map<Int, Any> = results.withIndex().associate { (index, buffer) -> index to buffer }

    override val inputs = inputTensors.map(::describe)
    override val outputs = outputTensors.map(::describe)

    override fun fill(input: ByteArray) {
        (this.input as Buffer).clear()
        this.input.put(input)
    }

    override fun invoke() {
        for (buffer in results) (buffer as Buffer).clear()
        try {
            interpreter.runForMultipleInputsOutputs(inputArray, resultMap)
        } catch (error: RuntimeException) {
            throw SfumatoException("the network failed: ${error.reason}")
        }
    }

    override fun read(): List<ByteArray> = results.map { buffer ->
        (buffer as Buffer).rewind()
        ByteArray(buffer.capacity()).also(buffer::get)
    }

    override fun close() {
        interpreter.close()
        delegate?.close()
    }

    private fun describe(tensor: Tensor): TensorInfo {
        val type = when (tensor.dataType()) {
            DataType.INT8 -> "int8"
            DataType.FLOAT32 -> "float32"
            else -> tensor.dataType().toString().lowercase()
        }
        val quantization = tensor.quantizationParams()
        return TensorInfo(tensor.name(), tensor.shape().toList(), type, quantization.scale, quantization.zeroPoint)
    }
}

private fun direct(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder())

/** A model as the interpreter takes it. */
internal fun direct(content: ByteArray): ByteBuffer = direct(content.size).also { it.put(content) }

/** What TensorFlow Lite wrote to this app's log: the only place that has how many nodes a delegate took. */
fun tfliteLog(): List<String> = try {
    val process = ProcessBuilder("logcat", "-d", "-v", "brief", "-s", "tflite:I").start()
    process.inputStream.bufferedReader().use { it.readLines() }
} catch (error: IOException) {
    emptyList()
}
