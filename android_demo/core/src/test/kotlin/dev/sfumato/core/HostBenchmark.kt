/**
 * The app's benchmark on a computer: its measuring code and its files, with an interpreter at the other end of a pipe in place of
 * LiteRT's, which is not made for computers. The host's tests read what it writes.
 *
 *     java -cp ... dev.sfumato.core.HostBenchmark python tests/android/interpreter.py FILES '{"model": "a.tflite", "threads": 1}'
 *
 * FILES is the folder that host and app share: models lie in FILES/bench, the result becomes FILES/bench.json.
 */
@file:JvmName("HostBenchmark")

package dev.sfumato.core

import java.awt.Rectangle
import java.io.ByteArrayInputStream
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.io.IOException
import javax.imageio.ImageIO

fun main(arguments: Array<String>) {
    val interpreter = arguments.dropLast(2)
    val (folder, text) = arguments.takeLast(2)
    val files = File(folder)
    val given = parseJson(text.encodeToByteArray()) as Map<*, *>
    // An intent holds 32-bit numbers.
    val extras = given.entries.associate { (key, value) -> key as String to if (value is Long) value.toInt() else value }
    val part = File(files, "bench.json.part")
    part.writeText(Benchmark(HostMachine(files, interpreter)).run(extras))
    check(part.renameTo(File(files, "bench.json")))
}

private class HostMachine(private val files: File, private val interpreter: List<String>) : BenchmarkMachine {
    override val runtime = "piped"
    override val appVersion = "0.1.0"
    override val networks = NetworkFactory { model, accelerator, threads ->
        if (accelerator != Accelerator.CPU) throw SfumatoException("$accelerator refuses this model: this computer has none")
        PipedNetwork(interpreter, model, threads)
    }

    override fun file(name: String): ByteArray = try {
        File(files, "bench/$name").readBytes()
    } catch (error: IOException) {
        throw SfumatoException("bench/$name cannot be read: ${error.message}")
    }

    override fun decode(photo: ByteArray, height: Int, width: Int): Picture {
        val reader = ImageIO.getImageReadersByFormatName("jpeg").next()
        reader.input = ImageIO.createImageInputStream(ByteArrayInputStream(photo))
        val whole = Rectangle(reader.getWidth(0), reader.getHeight(0))
        val step = Picture.reduction(whole.height, whole.width, height, width)
        val image = reader.read(0, reader.defaultReadParam.apply { setSourceSubsampling(step, step, 0, 0) })
        return Picture.fromArgb(image.height, image.width, image.getRGB(0, 0, image.width, image.height, null, 0, image.width))
    }

    override fun thermalStatus(): Int? = null

    override fun battery() = Battery(null, null, null)

    override fun peakKilobytes(): Long? = null

    override fun inForeground() = true
}

/** A network that lives in another process. */
class PipedNetwork(command: List<String>, model: ByteArray, threads: Int) : LocalNetwork {
    private val process = ProcessBuilder(command + "$threads").redirectError(ProcessBuilder.Redirect.INHERIT).start()
    private val questions = DataOutputStream(process.outputStream.buffered())
    private val answers = DataInputStream(process.inputStream.buffered())

    init {
        questions.writeInt(model.size)
        questions.write(model)
        questions.flush()
    }

    private val tensors = parseJson(take(answers.readInt())).asObject("the interpreter's answer")
    override val inputs = tensors.children("inputs").map(::describe)
    override val outputs = tensors.children("outputs").map(::describe)
    override val delegation: Delegation? = null

    override fun fill(input: ByteArray) {
        questions.write('f'.code)
        questions.write(input)
        take(1)
    }

    override fun invoke() {
        questions.write('i'.code)
        take(1)
    }

    override fun read(): List<ByteArray> {
        questions.write('r'.code)
        questions.flush()
        return outputs.map { take(answers.readInt()) }
    }

    override fun close() {
        questions.close()
        process.waitFor()
    }

    private fun take(count: Int): ByteArray {
        questions.flush()
        return ByteArray(count).also(answers::readFully)
    }

    private fun describe(tensor: JsonObject) = TensorInfo(
        tensor.text("name"), tensor.list("shape").map { (it as Long).toInt() }, tensor.text("type"), tensor.number("scale").toFloat(), tensor.int("zero_point"),
    )
}
