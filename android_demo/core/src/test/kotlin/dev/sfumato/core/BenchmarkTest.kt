package dev.sfumato.core

import java.io.IOException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class BenchmarkTest {
    private val network = FakeNetwork(onInvoke = { now += 1_000_000 })
    private var now = 0L
    private val asked = mapOf("id" to "3f9c0a", "model" to "local_int8.tflite", "runs" to 40, "warmup" to 5)

    private inner class Machine(
        val files: Map<String, ByteArray> = mapOf("local_int8.tflite" to MODEL, Contract.FILE to contractBytes(), "photo.png" to byteArrayOf(1)),
        val refuse: Throwable? = null,
        val opened: LocalNetwork = network,
    ) : BenchmarkMachine {
        override val runtime = "litert test"
        override val appVersion = "0.1.0"
        override val networks = NetworkFactory { _, _, _ ->
            refuse?.let { throw it }
            now += 3_000_000
            opened
        }

        override fun file(name: String) = files[name] ?: throw IOException("$name is not there")

        override fun decode(photo: ByteArray, height: Int, width: Int) = pattern("ramp", 40, 50).also { now += 7_000_000 }

        override fun thermalStatus() = 1

        override fun battery() = Battery(81, true, null)

        override fun peakKilobytes() = 1234L

        override fun inForeground() = true

        override fun nanoTime() = now
    }

    private fun run(extras: Map<String, Any?>, machine: BenchmarkMachine = Machine()): Map<*, *> =
        parseJson(Benchmark(machine).run(extras).encodeToByteArray()) as Map<*, *>

    @Test
    fun everyRunIsReported() {
        val result = run(asked)
        val expected = mapOf(
            "schema" to "sfumato-phone/1", "id" to "3f9c0a", "status" to "done", "error" to null, "model" to "local_int8.tflite",
            "sha256" to sha256(MODEL), "runtime" to "litert test", "delegate" to "cpu", "threads" to 1L, "nodes" to 42L,
            "delegated_nodes" to 42L, "partitions" to 1L, "fully_accelerated" to false,
            "init_ms" to 3.0, "first_ms" to 1.0, "warmup" to 5L, "runs_ns" to List(40) { 1_000_000L },
            "sustained" to null, "stages" to null, "output_sha256" to sha256(network.answer(flipTopBit(standard()))),
            "thermal" to mapOf("before" to 1L, "after" to 1L),
            "battery" to mapOf("percent" to 81L, "charging" to true, "celsius" to null),
            "peak_kb" to 1234L, "foreground" to true, "app" to "0.1.0",
        )
        assertEquals(expected, result)
        assertEquals(1 + 5 + 40 + 1, network.invoked)
        assertTrue(network.closed)
    }

    private fun standard() = ByteArray(SIDE * SIDE * 3) { ((it * 2654435761L and 0xFFFFFFFFL) shr 24).toByte() }

    @Test
    fun timedRunsEndAfterTenSecondsButNotBeforeTenRuns() {
        val slow = FakeNetwork(onInvoke = { now += 600_000_000 })
        assertEquals(17, (run(asked + ("runs" to 500), Machine(opened = slow))["runs_ns"] as List<*>).size)
        val slower = FakeNetwork(onInvoke = { now += 5_000_000_000 })
        assertEquals(10, (run(asked + ("runs" to 500), Machine(opened = slower))["runs_ns"] as List<*>).size)
        assertEquals(3, (run(asked + ("runs" to 3), Machine(opened = slower))["runs_ns"] as List<*>).size)
    }

    @Test
    fun sustainedRunsComeInWindowsOfASecond() {
        val result = run(asked + ("sustained" to 3))["sustained"] as Map<*, *>
        assertEquals(3.0, result["seconds"])
        val window = mapOf("runs" to 1000L, "p50_ns" to 1_000_000L, "p90_ns" to 1_000_000L, "thermal" to 1L)
        assertEquals(List(3) { window }, result["windows"])
    }

    @Test
    fun thePhotosWayIsTimedStageByStage() {
        val stages = run(asked + ("photo" to "photo.png"))["stages"] as Map<*, *>
        assertEquals(20L, stages["runs"])
        assertEquals(List(20) { 7_000_000L }, stages["decode_ns"])
        assertEquals(List(20) { 1_000_000L }, stages["network_ns"])
        for (name in listOf("resize", "noise", "sampler", "encode")) assertEquals(List(20) { 0L }, stages["${name}_ns"])
    }

    @Test
    fun floatModelsAreMeasuredToo() {
        val float = listOf(TensorInfo("x", listOf(1, 2, 2), "float32", 0f, 0))
        val bytes = java.nio.ByteBuffer.wrap(Benchmark.standardInput(float)).order(java.nio.ByteOrder.nativeOrder()).asFloatBuffer()
        assertEquals(List(4) { (standard()[it].toInt() and 0xFF) / 255f }, List(4) { bytes[it] })
    }

    @Test
    fun whatGoesWrongIsAResultAndNotACrash() {
        val cases = listOf(
            asked - "model" to "model is missing",
            asked + ("model" to "../secret") to "no name of a file",
            asked + ("model" to "other.tflite") to "other.tflite is not there",
            asked + ("delegate" to "tpu") to "cpu, nnapi, gpu, npu",
            asked + ("threads" to 17) to "1 to 16",
            asked + ("threads" to "2") to "--ei",
            asked + ("runs" to 0) to "runs",
            asked + ("colour" to "red") to "colour",
            asked + ("photo" to "missing.jpg") to "missing.jpg",
        )
        for ((extras, word) in cases) assertFailed(run(extras), word)
        assertFailed(run(asked, Machine(refuse = SfumatoException("NNAPI says no\nreally"))), "NNAPI says no really")
        assertFailed(run(asked, Machine(refuse = UnsatisfiedLinkError("libtensorflowlite_gpu_jni.so"))), "gpu_jni")
        val changed = mapOf("local_int8.tflite" to byteArrayOf(1), Contract.FILE to contractBytes(), "photo.png" to byteArrayOf(1))
        assertFailed(run(asked + ("photo" to "photo.png"), Machine(files = changed)), "sha256")
        val two = object : LocalNetwork by network {
            override val inputs = network.inputs + network.inputs
        }
        assertFailed(run(asked, Machine(opened = two)), "2 inputs")
    }

    @Test
    fun whatRunsOnTheCpuInItsPlaceIsNotMeasured() {
        val silences = listOf("no line of TfLiteNnapiDelegate", "no line of TfLiteGpuDelegate", "the runtime does not say")
        for ((name, silence) in listOf("nnapi", "gpu", "npu").zip(silences)) {
            val cases = listOf(null to silence, Delegation(42, 0, 1) to "0 of 42 nodes")
            for ((delegation, word) in cases) {
                val opened = FakeNetwork(delegation = delegation)
                val result = run(asked + ("delegate" to name), Machine(opened = opened))
                assertFailed(result, word)
                assertFailed(result, "${name.uppercase()} takes no node of this model")
                assertEquals(listOf(0, true), listOf(opened.invoked, opened.closed))
            }
            val part = run(asked + ("delegate" to name), Machine(opened = FakeNetwork(delegation = Delegation(42, 1, 3))))
            assertEquals(listOf<Any?>("done", name, 1L), listOf(part["status"], part["delegate"], part["delegated_nodes"]))
        }
        for (name in listOf("gpu", "npu")) {
            val opened = FakeNetwork(delegation = null, fullyAccelerated = true)
            val whole = run(asked + ("delegate" to name), Machine(opened = opened))
            assertEquals(listOf<Any?>("done", null, true), listOf(whole["status"], whole["delegated_nodes"], whole["fully_accelerated"]))
        }
        val silent = run(asked, Machine(opened = FakeNetwork(delegation = null)))
        assertEquals(listOf<Any?>("done", "cpu", null), listOf(silent["status"], silent["delegate"], silent["delegated_nodes"]))
        assertFailed(run(asked, Machine(opened = FakeNetwork(delegation = Delegation(42, 0, 1)))), "CPU takes no node")
    }

    private fun assertFailed(result: Map<*, *>, word: String) {
        assertEquals(setOf("schema", "id", "status", "error"), result.keys)
        assertEquals(listOf("sfumato-phone/1", "3f9c0a", "failed"), listOf(result["schema"], result["id"], result["status"]))
        assertTrue("$word is not in: ${result["error"]}", word in result["error"] as String)
    }
}
