package dev.sfumato.core

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.net.InetSocketAddress
import kotlin.concurrent.thread
import org.junit.After
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ClientTest {
    private val contract = smallContract()
    private val upload = Upload("upload".encodeToByteArray(), Encoding.PNG)
    private val server = ScriptedServer(contractBytes())
    private val pauses = mutableListOf<Long>()

    private fun client(token: String? = null, config: ClientConfig = ClientConfig()) =
        Client(server.url, contract, token, config, sleep = pauses::add)

    @After
    fun stop() = server.stop()

    @Test
    fun anAnswerIsReadAndChecked() {
        server.play(say(200, GOOD))
        val reply = client().send(upload)
        assertEquals(Answer("yes", mapOf("no" to 0.1, "yes" to 0.9)), reply.answers["smiling"])
        assertEquals(listOf("r1", upload.content.size, 1), listOf(reply.requestId, reply.sentBytes, reply.attempts))
    }

    @Test
    fun aNumberIsReadWhereTheContractHasValues() {
        val parts = contractParts()
        parts["keep"] = listOf(mapOf("name" to "smiling", "classes" to listOf("no", "yes"), "values" to listOf(10, 30.5)))
        val numbers = Contract.parse(contractBytes(parts))
        assertEquals(listOf(10.0, 30.5), numbers.keep.single().values)
        val own = ScriptedServer(contractBytes(parts))
        own.play(say(200, GOOD), say(200, GOOD.replace("\"label\"", "\"value\": 28.45, \"label\"")))
        val client = Client(own.url, numbers, sleep = pauses::add)
        val error = assertThrows(ServerException::class.java) { client.send(upload) }
        assertTrue("${error.message}", "does not fit" in error.message.orEmpty())
        assertEquals(28.45, client.send(upload).answers.getValue("smiling").value!!, 0.0)
        own.stop()
        for (wrong in listOf(listOf(1), listOf(1, "2"), "12")) {
            parts["keep"] = listOf(mapOf("name" to "smiling", "classes" to listOf("no", "yes"), "values" to wrong))
            assertThrows("$wrong", SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
        }
    }

    @Test
    fun aMaskIsReadWhereTheContractHasAGrid() {
        val parts = contractParts()
        val kept = mapOf("name" to "smiling", "classes" to listOf("no", "yes"))
        parts["keep"] = listOf(kept + ("grid" to listOf(2, 3)))
        val masks = Contract.parse(contractBytes(parts))
        assertEquals(listOf(2, 3), masks.keep.single().grid)
        val broken = listOf("", "[0, 5]", "[0, 5, 1]", "[2, 6]", "[0, 0, 1, 6]", "[0, 7, 1, -1]", "[0, 6.0]")
        val said = { mask: String -> say(200, if (mask.isEmpty()) GOOD else GOOD.replace("\"label\"", "\"mask\": $mask, \"label\"")) }
        val own = ScriptedServer(contractBytes(parts))
        own.play(*broken.map(said).toTypedArray(), said("[0, 4, 1, 1, 0, 1]"))
        val client = Client(own.url, masks, sleep = pauses::add)
        for (mask in broken) {
            val error = assertThrows(mask, ServerException::class.java) { client.send(upload) }
            assertTrue("${error.message}", "does not fit" in error.message.orEmpty())
        }
        assertEquals(listOf(0, 0, 0, 0, 1, 0), client.send(upload).answers.getValue("smiling").cells)
        own.stop()
        for (wrong in listOf(listOf(2), listOf(0, 3), listOf(300, 300), listOf(2, 1.5), "23")) {
            parts["keep"] = listOf(kept + ("grid" to wrong))
            assertThrows("$wrong", SfumatoException::class.java) { Contract.parse(contractBytes(parts)) }
        }
    }

    @Test
    fun busyAndBrokenServersAreAskedAgainWithTheSameUpload() {
        server.play(say(503), HANG_UP, say(429, headers = mapOf("Retry-After" to "3")), say(200, GOOD))
        val reply = client().send(upload)
        assertEquals(4, reply.attempts)
        server.bodies.forEach { assertArrayEquals(upload.content, it) }
        assertEquals(4, server.bodies.size)
        assertEquals(3, pauses.size)
        assertTrue("$pauses", pauses[0] in 0..250 && pauses[1] in 0..500 && pauses[2] in 3000..4000)
    }

    @Test
    fun onlyTheUploadTravels() {
        server.play(say(200, GOOD), say(200, GOOD))
        client(token = "secret-of-this-app").send(upload)
        Client(server.url, contract).send(Upload(byteArrayOf(1), Encoding.PACKED))
        val (first, second) = server.headers
        assertEquals("Bearer secret-of-this-app", first["authorization"])
        assertEquals("image/png", first["content-type"])
        assertEquals(contract.sha256, first["sfumato-contract"])
        assertEquals("application/vnd.sfumato.packed", second["content-type"])
        assertEquals(EXPECTED_HEADERS, second.keys)
    }

    @Test
    fun whatPatienceCannotMendIsSaidAtOnce() {
        val cases = listOf(
            say(422, """{"type": "urn:x:raw-photo", "title": "T", "detail": "D"}""") to "T: D",
            say(401, "<html>") to "401",
            say(302, headers = mapOf("Location" to "http://elsewhere.example/")) to "302",
            say(429, headers = mapOf("Retry-After" to "3600")) to "3600 s",
            say(200, "no json") to "does not fit",
            say(200, GOOD.replace("smiling", "hair")) to "does not fit",
            say(200, GOOD.replace("\"yes\":", "\"maybe\":")) to "does not fit",
            say(200, "x".repeat((1 shl 20) + 1)) to "larger",
        )
        for ((step, expected) in cases) {
            server.bodies.clear()
            server.play(step)
            val error = assertThrows(ServerException::class.java) { client().send(upload) }
            assertTrue("$expected is not in: ${error.message}", expected in error.message.orEmpty())
            assertEquals(expected, 1, server.bodies.size)
        }
        assertTrue(pauses.isEmpty())
    }

    @Test
    fun aRefusalKeepsItsKind() {
        server.play(say(422, """{"type": "urn:sfumato:problem:raw-photo", "title": "A photo", "detail": ""}"""))
        val error = assertThrows(ServerException::class.java) { client().send(upload) }
        assertEquals(listOf(422, "raw-photo"), listOf(error.status, error.kind))
    }

    @Test
    fun anotherContractStopsBeforeAnythingIsSent() {
        server.contract = contractBytes() + '\n'.code.toByte()
        val error = assertThrows(ServerException::class.java) { client().send(upload) }
        assertEquals("other-contract", error.kind)
        assertTrue(server.bodies.isEmpty())
    }

    @Test
    fun nobodyThereIsSaidAfterAllTries() {
        server.stop()
        val error = assertThrows(ServerException::class.java) { client(config = ClientConfig(attempts = 3)).send(upload) }
        assertTrue(error.message.orEmpty(), "no answer" in error.message.orEmpty())
        assertEquals(2, pauses.size)
    }

    @Test
    fun aPauseEndsWhenTheThreadIsInterrupted() {
        server.play(say(503), say(503))
        var ended = false
        val config = ClientConfig(firstPauseMillis = 600_000, longestPauseMillis = 600_000)
        val asking = thread {
            try {
                Client(server.url, contract, config = config).send(upload)
            } catch (error: InterruptedException) {
                ended = true
            }
        }
        while (server.bodies.isEmpty()) Thread.sleep(5)
        asking.interrupt()
        asking.join(10_000)
        assertTrue(ended)
    }

    @Test
    fun addressesThatLeakAreRefused() {
        val wrong = listOf("photos.example", "ftp://x", "http://photos.example", "https://u:p@x.example", "https://", "http://127.0.0.1.evil.example", "a b", "https://x.example:70000", "https://x.example/#a", "https://x.example/?a")
        for (address in wrong) assertThrows(address, SfumatoException::class.java) { Client.checkedUrl(address) }
        for (address in listOf("https://x.example/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:1")) {
            assertFalse(Client.checkedUrl(" $address ").endsWith("/"))
        }
    }

    @Test
    fun aTokenThatNoHeaderCarriesIsRefused() {
        for (token in listOf("two words", "line\n", "schl\u00fcssel")) {
            assertThrows(token, SfumatoException::class.java) { Client(server.url, contract, token) }
        }
    }

    private companion object {
        const val GOOD =
            """{"answers": {"smiling": {"label": "yes", "probabilities": {"no": 0.1, "yes": 0.9}}}, "request_id": "r1", "batch": 1}"""
        val EXPECTED_HEADERS =
            setOf("accept", "user-agent", "content-type", "content-length", "sfumato-contract", "host", "connection")
    }
}

private typealias Step = (HttpExchange) -> Unit

private fun say(status: Int, body: String = "", headers: Map<String, String> = emptyMap()): Step = { exchange ->
    headers.forEach(exchange.responseHeaders::set)
    val content = body.encodeToByteArray()
    exchange.sendResponseHeaders(status, if (content.isEmpty()) -1 else content.size.toLong())
    exchange.responseBody.use { it.write(content) }
}

/** Closes the connection without an answer. */
private val HANG_UP: Step = { exchange -> exchange.close() }

/** A server on loopback that plays steps in turn and remembers what it was sent. */
private class ScriptedServer(var contract: ByteArray) {
    val bodies = mutableListOf<ByteArray>()
    val headers = mutableListOf<Map<String, String>>()
    private val steps = ArrayDeque<Step>()
    private val http = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0).apply {
        createContext("/v1/contract") { exchange ->
            exchange.sendResponseHeaders(200, contract.size.toLong())
            exchange.responseBody.use { it.write(contract) }
        }
        createContext("/v1/predict") { exchange ->
            headers += exchange.requestHeaders.entries.associate { (name, values) -> name.lowercase() to values.first() }
            bodies += exchange.requestBody.readBytes()
            steps.removeFirst()(exchange)
        }
        start()
    }
    val url = "http://127.0.0.1:${http.address.port}"

    fun play(vararg more: Step) {
        steps += more
    }

    fun stop() = http.stop(0)
}
