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
    fun gatesAreReadAndBelongToDither() {
        val parts = contractParts()
        parts["channel"] = mapOf("name" to "dither", "levels" to 2, "gates" to true)
        assertEquals(Channel.Dither(1, gates = true), Contract.parse(contractBytes(parts)).channel)
        parts["channel"] = mapOf("name" to "dither", "levels" to 2, "gray" to true)
        assertEquals(Channel.Dither(1, gray = true), Contract.parse(contractBytes(parts)).channel)
        parts["channel"] = mapOf("name" to "dither", "levels" to 2, "gates" to 1)
        assertThrows(SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
    }

    @Test
    fun aPixelsByteHasOneOfTwoMeanings() {
        fun read(scale: Double, zero: Int): Contract {
            val parts = contractParts()
            @Suppress("UNCHECKED_CAST")
            parts["input"] = (parts["input"] as Map<String, Any?>) + mapOf("int8_scale" to scale, "int8_zero_point" to zero)
            return Contract.parse(contractBytes(parts))
        }
        assertEquals(listOf(-128, 0), listOf(read(1 / 255.0, -128), read(8 / 255.0, 0)).map { it.input.zeroPoint })
        for ((scale, zero) in listOf(1 / 255.0 to 0, 8 / 255.0 to -128, 4 / 255.0 to 0)) {
            assertThrows(SfumatoException::class.java) { read(scale, zero) }
        }
    }

    @Test
    fun anUploadMayHaveFewerSamplesThanThePhoto() {
        fun parts(change: MutableMap<String, Any?>.() -> Unit = {}): Map<String, Any?> = contractParts(subsample = 2).apply(change)
        val contract = Contract.parse(contractBytes(parts()))
        assertEquals(Channel.Dither(1, subsample = 2), contract.channel)
        assertEquals(listOf(2 * SIDE, SIDE, SIDE), listOf(contract.height, contract.uploadHeight, contract.uploadWidth))
        for (subsample in listOf(1, 1.5, 3, 4, 8, null, "2")) {
            val changed = parts { this["channel"] = mapOf("name" to "dither", "levels" to 2, "subsample" to subsample) }
            assertThrows("$subsample", SfumatoException::class.java) { Contract.parse(contractBytes(changed)) }
        }
        val gated = parts { this["channel"] = mapOf("name" to "dither", "levels" to 2, "subsample" to 2, "gates" to true) }
        assertThrows(SfumatoException::class.java) { Contract.parse(contractBytes(gated)) }
        @Suppress("UNCHECKED_CAST")
        val p = (contractParts()["outputs"] as List<Map<String, Any?>>).single()
        val large = parts { this["outputs"] = listOf(p + ("shape" to listOf(1, 2 * SIDE, 2 * SIDE, 3))) }
        assertThrows(SfumatoException::class.java) { Contract.parse(contractBytes(large)) }
    }

    @Test
    fun pointsAreReadAndBelongToDither() {
        fun read(points: Any?) = Contract.parse(contractBytes(contractParts() + ("points" to points))).points
        assertEquals(listOf(StrengthPoint(128, mapOf("smiling" to 0.9), 64.0), StrengthPoint(1, mapOf("smiling" to 0.9), 0.5)), read(points(128, 1)))
        assertEquals(emptyList<StrengthPoint>(), read(null))
        val one = points(128).single()
        val refused = listOf(
            emptyList<Any>(), points(64), points(128, 128), points(128, 32, 64), points(128, 0), points(129, 128), listOf(one - "strength"),
            listOf(one + ("accuracy" to mapOf("skin" to 0.9))), listOf(one + ("accuracy" to mapOf("smiling" to 90))),
            listOf(one + ("rate_bits" to mapOf("mean" to 1.0))), listOf(one + ("colour" to 1)), listOf(one + ("strength" to 128.5)), "128",
        )
        for (points in refused) assertThrows("$points", SfumatoException::class.java) { read(points) }
        val parts = contractParts()
        @Suppress("UNCHECKED_CAST")
        val p = (parts["outputs"] as List<Map<String, Any?>>).single()
        parts["outputs"] = listOf(p + ("name" to "mean"), p + ("name" to "scale"))
        parts["channel"] = mapOf("name" to "gaussian", "additive" to false, "largest_scale" to 0.5, "reference_scale" to 0.3)
        parts["upload"] = mapOf("encoding" to "packed", "bit_depth" to 8, "colour" to "rgb", "width" to SIDE, "height" to SIDE)
        Contract.parse(contractBytes(parts))
        parts["points"] = points(128)
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
    fun anAnswerIsRead() {
        val contract = Contract.parse(contractBytes(answerParts()))
        assertEquals(Channel.Answer, contract.channel)
        assertEquals(Encoding.WORD, contract.encoding)
        assertEquals(AnswerSpec(6, listOf(4, 20), "answer_table.bin", 2.5), contract.answer)
        assertEquals(5, contract.outputs.single().planes)
        val plain = answerParts().also { it["answer"] = ANSWER + ("margins" to emptyList<Int>()) + ("table" to null) }
        assertEquals(AnswerSpec(6, emptyList(), null, 2.5), Contract.parse(contractBytes(plain)).answer)
    }

    @Test
    fun anAnswerThatDoesNotFitIsRefusedWithAReason() {
        val changes = listOf(
            replace("answer", "words", 5) to "5 words",
            replace("answer", "image_code", 2) to "image code",
            replace("answer", "margins", listOf(20, 4)) to "increase",
            replace("answer", "margins", listOf(0, 4)) to "increase",
            replace("answer", "margins", listOf(4, 5, 6)) to "bytes",
            replace("answer", "table", "other.bin") to "other.bin",
            replace("answer", "table", null) to "margins",
            replace("answer", "extra", 1) to "extra",
            replace("outputs", "shape", listOf(1, 1, 1, 6)) to "channel",
            replace("outputs", "int8_scale", 0.0) to "positive",
            replace("outputs", "name", "p") to "shape",
            replace("channel", "levels", 4) to "levels",
            replace("upload", "encoding", "png") to "mode answer",
            { parts: MutableMap<String, Any?> -> parts["answer"] = null } to "mode answer",
            { parts: MutableMap<String, Any?> -> parts["mode"] = "picture" } to "mode picture",
        )
        for ((change, word) in changes) {
            val error = assertThrows(word, SfumatoException::class.java) { Contract.parse(contractBytes(answerParts().also(change))) }
            assertTrue("$word is not in: ${error.message}", word in error.message.orEmpty())
        }
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
        val ANSWER = mapOf("words" to 6, "image_code" to 1, "margins" to listOf(4, 20), "table" to "answer_table.bin", "entropy_bits" to 2.5)

        /** A randomised answer to two questions, with three and two classes. */
        fun answerParts(): MutableMap<String, Any?> = contractParts().also { parts ->
            val states = (3 * 2 * 3) * (2 * 1 * 3)
            @Suppress("UNCHECKED_CAST")
            fun list(key: String) = parts[key] as List<Map<String, Any?>>
            val (p, files) = list("outputs").single() to list("files")
            parts["mode"] = "answer"
            parts["channel"] = mapOf("name" to "answer", "levels" to 2)
            parts["outputs"] = listOf(p + mapOf("name" to "scores", "shape" to listOf(1, 1, 1, 5), "int8_scale" to 0.07, "int8_zero_point" to 3))
            parts["keep"] = listOf(
                mapOf("name" to "age", "classes" to listOf("a", "b", "c")), mapOf("name" to "glasses", "classes" to listOf("no", "yes")),
            )
            replace("upload", "encoding", "word")(parts)
            parts["files"] = files + (files.first() + mapOf("name" to "answer_table.bin", "bytes" to 4 * states * 6))
            parts["answer"] = ANSWER
            parts["goal"] = mapOf("target_bits" to 3, "reached_bits" to 2.5, "beyond_target_bits" to null, "met" to true)
        }

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
            { parts: MutableMap<String, Any?> -> parts["schema"] = "sfumato-contract/3" } to "schema",
            { parts: MutableMap<String, Any?> -> parts["schema"] = "sfumato-contract/1" } to "repeats between releases",
            { parts: MutableMap<String, Any?> -> parts["mode"] = "answer" } to "mode answer",
            { parts: MutableMap<String, Any?> -> parts["mode"] = "both" } to "mode both",
            { parts: MutableMap<String, Any?> -> parts["sampler"] = 2 } to "sampler",
            { parts: MutableMap<String, Any?> -> parts["noise"] = 1 } to "noise",
            { parts: MutableMap<String, Any?> -> parts["goal"] = mapOf("met" to 1) } to "met",
            { parts: MutableMap<String, Any?> -> parts["figures"] = mapOf(Familiar.KEY to mapOf("limit" to 3)) } to "damaged",
            { parts: MutableMap<String, Any?> -> parts["goal"] = mapOf("met" to true, "wish" to 1) } to "wish",
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
