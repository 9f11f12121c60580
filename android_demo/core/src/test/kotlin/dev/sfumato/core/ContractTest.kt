package dev.sfumato.core

import java.io.IOException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ContractTest {
    @Test
    fun theExportAtHandIsRead() {
        val bundle = Bundle.open(::exportFile)
        val contract = bundle.contract
        assertEquals(sha256(exportFile(Contract.FILE)), contract.sha256)
        assertEquals("local_int8.tflite", contract.model.file)
        assertTrue(contract.height >= 16 && contract.keep.all { it.classes.size >= 2 })
        assertTrue(bundle.vectors.model.isNotEmpty())
    }

    @Test
    fun everyPartArrives() {
        val contract = smallContract(levels = 16)
        assertEquals(Channel.Dither(4), contract.channel)
        assertEquals(listOf(Kept("smiling", listOf("no", "yes"))), contract.keep)
        assertEquals(Encoding.PNG, contract.encoding)
        assertEquals(12, contract.outputs.single().planes)
        assertEquals(SIDE * SIDE * 12, contract.channel.noiseBytes(contract.input.size))
    }

    @Test
    fun aGaussianContractIsRead() {
        val parts = contractParts()
        @Suppress("UNCHECKED_CAST")
        val p = (parts["outputs"] as List<Map<String, Any?>>).single()
        parts["outputs"] = listOf(p + ("name" to "mean"), p + ("name" to "scale") + ("unit" to 0.5))
        parts["channel"] = mapOf("name" to "gaussian", "additive" to false, "largest_scale" to 0.5, "reference_scale" to 0.3)
        parts["upload"] = mapOf("encoding" to "packed", "bit_depth" to 8, "colour" to "rgb", "width" to SIDE, "height" to SIDE)
        val contract = Contract.parse(contractBytes(parts))
        assertEquals(Channel.Gaussian(false, 0.5), contract.channel)
        assertEquals(Encoding.PACKED, contract.encoding)
        parts["channel"] = mapOf("name" to "gaussian", "additive" to false, "largest_scale" to 0.51, "reference_scale" to 0.3)
        assertThrows(SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
    }

    @Test
    fun whatDoesNotFitIsRefusedWithAReason() {
        for ((change, word) in CHANGES) {
            val parts = contractParts()
            change(parts)
            val error = assertThrows(word, SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
            assertTrue("$word is not in: ${error.message}", word in error.message.orEmpty())
        }
        assertThrows(SfumatoException::class.java) { Contract.parse(ByteArray((1 shl 20) + 1) { ' '.code.toByte() }) }
    }

    @Test
    fun everyKeyIsNeeded() {
        for (key in contractParts().keys) {
            val parts = contractParts().also { it.remove(key) }
            assertThrows(key, SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
        }
    }

    @Test
    fun aBundleWhoseModelChangedIsRefused() {
        val files = mapOf(Contract.FILE to contractBytes(), "local_int8.tflite" to MODEL, "vectors.json" to vectorsBytes())
        fun open(changed: Map<String, ByteArray>) = Bundle.open { changed[it] ?: throw IOException(it) }
        assertEquals(smallContract().sha256, open(files).contract.sha256)
        for (name in listOf("local_int8.tflite", "vectors.json")) {
            val other = files.getValue(name).copyOf().also { it[0]++ }
            val error = assertThrows(SfumatoException::class.java) { open(files + (name to other)) }
            assertTrue(error.message.orEmpty(), name in error.message.orEmpty())
        }
        val missing = assertThrows(SfumatoException::class.java) { open(files - Contract.FILE) }
        assertTrue("sfumato export" in missing.message.orEmpty())
    }

    @Test
    fun aModelWithOtherTensorsIsRefused() {
        checkTensors(smallContract(), FakeNetwork())
        assertThrows(SfumatoException::class.java) { checkTensors(smallContract(), FakeNetwork(planes = 6)) }
        val other = object : LocalNetwork by FakeNetwork() {
            override val inputs = listOf(TensorInfo("image", listOf(1, SIDE, SIDE, 3), "int8", 0.0038f, -128))
        }
        val error = assertThrows(SfumatoException::class.java) { checkTensors(smallContract(), other) }
        assertTrue(error.message.orEmpty(), "scale" in error.message.orEmpty())
    }

    private companion object {
        fun replace(key: String, inner: String, value: Any?): (MutableMap<String, Any?>) -> Unit = { parts ->
            val part = parts[key]
            @Suppress("UNCHECKED_CAST")
            parts[key] = if (part is List<*>) {
                listOf((part.first() as Map<String, Any?>) + (inner to value)) + part.drop(1)
            } else {
                (part as Map<String, Any?>) + (inner to value)
            }
        }

        val CHANGES: List<Pair<(MutableMap<String, Any?>) -> Unit, String>> = listOf<Pair<(MutableMap<String, Any?>) -> Unit, String>>(
            { parts: MutableMap<String, Any?> -> parts["schema"] = "sfumato-contract/2" } to "schema",
            { parts: MutableMap<String, Any?> -> parts["sampler"] = 2 } to "sampler",
            { parts: MutableMap<String, Any?> -> parts["noise"] = 2 } to "noise",
            { parts: MutableMap<String, Any?> -> parts["extra"] = 1 } to "extra",
            { parts: MutableMap<String, Any?> -> parts["crop"] = "none" } to "crop",
            { parts: MutableMap<String, Any?> -> parts["keep"] = emptyList<Any?>() } to "keep",
            { parts: MutableMap<String, Any?> -> parts["models"] = emptyList<Any?>() } to "int8",
            replace("channel", "levels", 8) to "levels",
            replace("channel", "name", "laplace") to "laplace",
            replace("channel", "additive", true) to "additive",
            replace("input", "shape", listOf(1, 8, 16, 3)) to "shape",
            replace("input", "shape", listOf(2, 16, 16, 3)) to "shape",
            replace("input", "int8_scale", 0.004) to "scale",
            replace("outputs", "int8_zero_point", 0) to "zero point",
            replace("outputs", "shape", listOf(1, SIDE, SIDE, 6)) to "channel",
            replace("outputs", "shape", listOf(1, 32, SIDE, 3)) to "size",
            replace("outputs", "layout", "NCHW") to "layout",
            replace("upload", "bit_depth", 2) to "upload",
            replace("upload", "encoding", "jpeg") to "jpeg",
            replace("files", "name", "../../key") to "file name",
            replace("files", "sha256", "0") to "sha256",
            replace("files", "role", "spy") to "spy",
            replace("models", "file", "other.tflite") to "other.tflite",
            replace("models", "output", "float32") to "int8",
            replace("gates", "passed", false) to "parity",
        )
    }
}
