package dev.sfumato.demo

import android.content.ContextWrapper
import dev.sfumato.core.Accelerator
import dev.sfumato.core.Delegation
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.TensorInfo
import dev.sfumato.core.requireTaken
import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test

/** A model of the stubs: org.tensorflow.lite.Toy. */
internal const val MODEL = "input image int8 1x2x2x3 0.25 -3\noutput p int8 1x2x2x3 0.5 4\noutput label int8 1x2 1.0 0"

/** The app's factory on a phone whose accelerators take so many of the four nodes. */
internal class ToyPhone(folder: File, vararg takes: Pair<String, Int>) {
    private val context = object : ContextWrapper(null) {
        override fun getCacheDir() = folder
    }
    private val factory = LiteRtNetworkFactory(context) { System.getProperty("phone.log", "").lines() }

    init {
        for (name in listOf("log", "closed", "GPU", "NPU", "NNAPI", "leaks")) System.clearProperty("phone.$name")
        for ((name, nodes) in takes) System.setProperty("phone.$name", "$nodes")
    }

    fun open(accelerator: Accelerator, model: String = MODEL): LocalNetwork =
        factory.open(model.encodeToByteArray(), accelerator, 1).requireTaken(accelerator)

    fun refusal(accelerator: Accelerator, model: String = MODEL): String = try {
        open(accelerator, model).use { "it runs" }
    } catch (error: SfumatoException) {
        error.message.orEmpty()
    }
}

/** The flavour litert2. */
class CompiledNetworkTest {
    private val folder = File(System.getProperty("java.io.tmpdir"))

    @Before
    fun empty() {
        assertEquals(emptyList<String>(), folder.list().orEmpty().toList())
    }

    @Test
    fun whatTakesEveryNodeRunsAndIsFullyAccelerated() {
        for (accelerator in listOf(Accelerator.GPU, Accelerator.NPU)) {
            val network = ToyPhone(folder, "$accelerator" to 4).open(accelerator)
            assertTrue(network.fullyAccelerated)
            assertEquals(null, network.delegation)
            assertEquals(listOf(TensorInfo("image", listOf(1, 2, 2, 3), "int8", 0.25f, -3)), network.inputs)
            val outputs = listOf(TensorInfo("p", listOf(1, 2, 2, 3), "int8", 0.5f, 4), TensorInfo("label", listOf(1, 2), "int8", 1f, 0))
            assertEquals(outputs, network.outputs)
            val picture = ByteArray(12) { (it - 6).toByte() }
            val (p, label) = network.run(picture).let { listOf(it.getValue("p"), it.getValue("label")) }
            assertArrayEquals(picture, p)
            assertArrayEquals(picture.copyOf(2), label)
            network.close()
            val closed = List(3) { "TensorBuffer" } + "CompiledModel" + "Environment"
            assertEquals(closed, System.getProperty("phone.closed").split(" "))
            assertEquals("the model's file is gone", 0, folder.list().orEmpty().size)
        }
    }

    @Test
    fun aModelThatIsNotWhollyTakenIsRefused() {
        for (accelerator in listOf(Accelerator.GPU, Accelerator.NPU)) {
            for (nodes in listOf(0, 3)) {
                val said = ToyPhone(folder, "$accelerator" to nodes).refusal(accelerator)
                assertTrue(said, said.startsWith("$accelerator refuses this model: Some ops are not accelerated. Add"))
                assertEquals("Environment", System.getProperty("phone.closed"))
            }
        }
        // What the GPU takes is not the NPU's.
        assertTrue("refuses" in ToyPhone(folder, "GPU" to 4).refusal(Accelerator.NPU))
    }

    @Test
    fun aLineOfTheCpuRefusesWhateverWasPromised() {
        val said = ToyPhone(folder, "NPU" to 4, "leaks" to 1).refusal(Accelerator.NPU)
        assertEquals("NPU refuses this model: the CPU runs 1 of 4 nodes", said)
        assertEquals("CompiledModel Environment", System.getProperty("phone.closed"))
    }

    @Test
    fun theCpuIsTheInterpreters() {
        val network = ToyPhone(folder).open(Accelerator.CPU)
        assertEquals(Delegation(4, 4, 1), network.delegation)
        assertEquals(false, network.fullyAccelerated)
        assertArrayEquals(ByteArray(12) { 7 }, network.run(ByteArray(12) { 7 }).getValue("p"))
        val said = ToyPhone(folder, "NNAPI" to 4).refusal(Accelerator.NNAPI)
        assertEquals("NNAPI refuses this model: this flavour of the app has CPU, GPU, NPU only", said)
    }

    @Test
    fun floatModelsAreReadAndWritten() {
        val network = ToyPhone(folder, "GPU" to 4).open(Accelerator.GPU, MODEL.replace("int8", "float32"))
        val picture = ByteArray(48) { (it % 3).toByte() }
        assertArrayEquals(picture, network.run(picture).getValue("p"))
        network.close()
        val said = ToyPhone(folder, "GPU" to 4).refusal(Accelerator.GPU, MODEL.replace("image int8", "image"))
        assertTrue(said, said.startsWith("GPU refuses this model: ByteBuffer is not a valid TensorFlow Lite model"))
    }
}

/** The flavour nnapi. */
class DelegateNetworkTest {
    private val folder = File(System.getProperty("java.io.tmpdir"))

    @Test
    fun aDelegateThatTakesNodesRuns() {
        for (accelerator in listOf(Accelerator.NNAPI, Accelerator.GPU)) {
            val network = ToyPhone(folder, "$accelerator" to 3).open(accelerator)
            assertEquals(Delegation(4, 3, 1), network.delegation)
            assertEquals(false, network.fullyAccelerated)
            assertArrayEquals(ByteArray(12) { 7 }, network.run(ByteArray(12) { 7 }).getValue("p"))
            network.close()
            assertEquals("delegate", System.getProperty("phone.closed"))
        }
    }

    @Test
    fun oneThatTakesNothingIsRefused() {
        val names = mapOf(Accelerator.NNAPI to "TfLiteNnapiDelegate", Accelerator.GPU to "TfLiteGpuDelegate")
        for ((accelerator, name) in names) {
            val why = "TensorFlow Lite's log has no line of $name"
            val reason = "$accelerator takes no node of this model ($why), and nothing runs in its place"
            assertEquals(reason, ToyPhone(folder).refusal(accelerator))
            assertEquals("delegate", System.getProperty("phone.closed"))
        }
        val said = ToyPhone(folder, "NPU" to 4).refusal(Accelerator.NPU)
        assertEquals("NPU refuses this model: this flavour of the app has CPU, NNAPI, GPU only", said)
        assertEquals(Delegation(4, 4, 1), ToyPhone(folder).open(Accelerator.CPU).delegation)
    }
}
