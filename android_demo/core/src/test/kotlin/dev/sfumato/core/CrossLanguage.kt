/**
 * This module on the command line, for tests that compare languages: a case a line in, an answer a line out.
 *
 *     java -cp ... dev.sfumato.core.CrossLanguage fit < pictures.jsonl
 *         {"height", "width", "rgb": hex, "to_height", "to_width"} -> {"rgb": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage frame < frames.jsonl
 *         {"height", "width", "y", "u", "v": hex, "rotation", "to_height", "to_width"} -> {"rgb": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage turn < pictures.jsonl
 *         {"height", "width", "rgb": hex, "orientation"} -> {"height", "width", "rgb": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage argb < pictures.jsonl
 *         {"height", "width", "argb": [numbers]} -> {"rgb": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage read < files.jsonl
 *         {"file", "targets": [[height, width]]}, and "stored" for kinds that Android decodes: a file of their RGB bytes as stored
 *         -> {"kind", "height", "width", "orientation", "reductions", "fitted": [sha256]} or {"refusal"}
 *     java -cp ... dev.sfumato.core.CrossLanguage upload normal_table.bin < cases.jsonl
 *         a case of the list `upload` of vectors.json, or with `pixels` in hexadecimal, or of a `strength`, with `gates`
 *         -> {"noise": hex, "packed": hex, "png": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage answer < cases.jsonl
 *         a case of the list `answer` -> {"decision", "word", "bytes", "packed"}, with a table also "state"
 *     java -cp ... dev.sfumato.core.CrossLanguage index < cases.jsonl
 *         a case of the list `index` -> {"index", "levels", "rate_bits"}
 *     java -cp ... dev.sfumato.core.CrossLanguage sound < cases.jsonl
 *         {"wav": base64, "height", "width"} -> {"picture": hex}, one plane, or {"refusal"}
 *     java -cp ... dev.sfumato.core.CrossLanguage account FILE KEY < events.jsonl
 *         an event as of cloud/ledger_cli.js -> {"sentence"} or {"refusal"} a line; the ledger is left in FILE
 *     java -cp ... dev.sfumato.core.CrossLanguage draw < cases.jsonl
 *         {"key", "contract", "parameters", "pixels"} in hexadecimal -> {"draw": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage service < cases.jsonl
 *         {"key": hex, "service"} -> {"key": hex}
 *     java -cp ... dev.sfumato.core.CrossLanguage familiar < cases.jsonl
 *         {"pixels": hex, "height", "width", "figures" of a contract} -> {"features", "distance", "unlike"} or {"refusal"} a line;
 *         without limits among the figures "unlike" is null and there is no distance
 */
@file:JvmName("CrossLanguage")

package dev.sfumato.core

import java.io.File
import java.nio.ByteBuffer
import kotlin.io.encoding.Base64

fun main(arguments: Array<String>) {
    val answer: (JsonObject) -> Map<String, Any?> = when (arguments[0]) {
        "fit" -> { case -> mapOf("rgb" to case.picture().fit(case.int("to_height"), case.int("to_width")).rgb.toHexString()) }
        "frame" -> { case -> mapOf("rgb" to case.frame().fit(case.int("to_height"), case.int("to_width")).rgb.toHexString()) }
        "turn" -> { case ->
            case.picture().turned(case.int("orientation")).let { mapOf("height" to it.height, "width" to it.width, "rgb" to it.rgb.toHexString()) }
        }
        "argb" -> { case ->
            val words = case.list("argb").map { (it as Long).toInt() }.toIntArray()
            mapOf("rgb" to Picture.fromArgb(case.int("height"), case.int("width"), words).rgb.toHexString())
        }
        "read" -> ::readFile
        "account" -> account(File(arguments[1]), DeviceKey(arguments[2].hexToByteArray()))
        "draw" -> { case ->
            val (contract, parameters, pixels) = listOf("contract", "parameters", "pixels").map { case.text(it).hexToByteArray() }
            mapOf("draw" to drawId(DeviceKey(case.text("key").hexToByteArray()), contract, parameters, pixels).toHexString())
        }
        "service" -> { case ->
            mapOf("key" to DeviceKey(case.text("key").hexToByteArray()).forService(case.text("service")).bytes.toHexString())
        }
        "upload" -> uploads(NormalTable(File(arguments[1]).readBytes()))
        "answer" -> ::answerOf
        "index" -> ::indexOf
        "sound" -> ::soundOf
        "familiar" -> ::familiarOf
        else -> throw IllegalArgumentException(arguments[0])
    }
    for (line in generateSequence(::readlnOrNull)) println(writeJson(answer(parseJson(line.encodeToByteArray()).asObject("the case"))))
}

private fun indexOf(case: JsonObject): Map<String, Any?> {
    val (height, width) = case.int("height") to case.int("width")
    val (planes, bits) = case.int("planes") to case.int("bits")
    val code = IndexCode(height, width, planes, bits, case.flag("gray"), case.int("power"), case.int("memory"))
    val q = case.text("p").hexToByteArray()
    val index = code.draw(q, case.text("noise").hexToByteArray())
    return mapOf("index" to index.toHexString(), "levels" to code.levels(index).toHexString(), "rate_bits" to code.rateBits(q))
}

/** What the list `sound` of vectors.json says of a case. */
internal fun soundOf(case: JsonObject): Map<String, Any?> = try {
    val rgb = soundPicture(Recording.ofWav(Base64.decode(case.text("wav"))), case.int("height"), case.int("width")).rgb
    check(rgb.indices.all { rgb[it] == rgb[it - it % 3] })
    mapOf("picture" to ByteArray(rgb.size / 3) { rgb[3 * it] }.toHexString())
} catch (refusal: SfumatoException) {
    mapOf("refusal" to refusal.message)
}

private fun JsonObject.frame(): YuvFrame {
    val (height, width) = int("height") to int("width")
    fun plane(name: String, stride: Int) = YuvPlane(ByteBuffer.wrap(text(name).hexToByteArray()), stride, 1)
    val half = (width + 1) / 2
    return YuvFrame(height, width, plane("y", width), plane("u", half), plane("v", half), int("rotation"))
}

private fun JsonObject.picture() = Picture(int("height"), int("width"), text("rgb").hexToByteArray())

/** As the app reads a photo, with given pixels in place of Android's decoder. */
private fun readFile(case: JsonObject): Map<String, Any?> {
    val content = File(case.text("file")).readBytes()
    val targets = case.list("targets").map { side -> (side as List<*>).map { (it as Long).toInt() } }
    return try {
        val file = PictureFile.of(content)
        val stored = when {
            file.kind == PictureFile.Kind.PNG -> decodePng(content, file)
            "stored" in case -> Picture(file.height, file.width, File(case.text("stored")).readBytes())
            else -> null
        }
        val upright = stored?.turned(file.orientation)
        mapOf(
            "kind" to file.kind.name, "height" to file.height, "width" to file.width, "orientation" to file.orientation,
            "reductions" to targets.map { (height, width) -> file.reduction(height, width) },
            "fitted" to targets.mapNotNull { (height, width) -> upright?.fit(height, width)?.rgb?.let(::sha256) },
        )
    } catch (refusal: PictureException) {
        mapOf("refusal" to refusal.refusal.name.lowercase())
    }
}

private fun uploads(table: NormalTable): (JsonObject) -> Map<String, Any?> = { case ->
    val (height, width) = case.int("height") to case.int("width")
    val plane = "colours" in case && case.int("colours") == 1
    val picture = when {
        plane -> Picture.ofPlane(height, width, case.text("pixels").hexToByteArray())
        "pixels" in case -> Picture(height, width, case.text("pixels").hexToByteArray())
        else -> pattern(case.text("pattern"), height, width)
    }
    val pixels = picture.bytes(if (plane) 1 else 3)
    val channel = if ("bits" in case) {
        Channel.Dither(
            case.int("bits"),
            gates = case.flagOrNull("gates") ?: false,
            gray = case.flagOrNull("gray") ?: false,
            subsample = if ("subsample" in case) case.int("subsample") else 1,
            colours = if ("colours" in case) case.int("colours") else 3,
        )
    } else {
        Channel.Gaussian(case.flag("additive"), case.number("largest_scale"))
    }
    val side = channel.subsample
    val parameters = case.child("parameters")
    val given = parameters.keys.associateWith { parameters.text(it).hexToByteArray() }
    val q = atStrength(channel, given, if ("strength" in case) case.int("strength") else FULL_STRENGTH, height, width)
    val (key, contract) = DeviceKey(case.text("key").hexToByteArray()) to case.text("contract").hexToByteArray()
    val noise = keyedNoise(key, contract, q.values.fold(ByteArray(0), ByteArray::plus), pixels, channel.noiseBytes(pixels.size / (side * side)))
    val levels = sample(channel, picture, q, noise, table)
    mapOf(
        "noise" to noise.toHexString(),
        "packed" to pack(levels, channel.bits).toHexString(),
        "png" to encodePng(levels, height / side, width / side, channel.bits, colours = channel.colours).toHexString(),
    )
}

/** What the list `answer` of vectors.json says of a case. */
internal fun answerOf(case: JsonObject): Map<String, Any?> {
    val classes = case.list("classes").map { (it as Long).toInt() }
    val code = AnswerCode(classes, case.list("margins").map { (it as Long).toInt() }, table = null)
    val row = if ("row" in case) case.list("row").map { (it as Long).toInt() }.toIntArray() else null
    val decision = code.decide(case.text("scores").hexToByteArray())
    val word = if (row == null) code.plainWord(decision) else drawWord(row, case.text("noise").hexToByteArray())
    val found = mapOf(
        "decision" to decision.map { listOf(it.first, it.second, it.margin) },
        "word" to word,
        "bytes" to wordBytes(word, code.words).toHexString(),
        "packed" to pack(wordImage(word, code.words, case.int("height"), case.int("width")), bits = 1).toHexString(),
    )
    return if (row == null) found else found + ("state" to code.state(decision))
}

private fun familiarOf(case: JsonObject): Map<String, Any?> {
    val picture = Picture(case.int("height"), case.int("width"), case.text("pixels").hexToByteArray())
    val limits = try {
        Familiar.read(case.child("figures"))
    } catch (refusal: SfumatoException) {
        return mapOf("refusal" to refusal.message)
    }
    val found = mapOf("features" to features(picture), "unlike" to limits?.unlike(picture))
    return if (limits == null) found else found + ("distance" to limits.distance(picture))
}

private fun account(file: File, key: DeviceKey): (JsonObject) -> Map<String, Any?> {
    var now = 0L
    val ledger = Ledger(file, key) { 1000 * now }
    return { event ->
        now = event.whole("time")
        val service = event.text("service")
        try {
            when (event.text("do")) {
                "limit" -> ledger.setLimit(service, event.numberOrNull("day"), event.numberOrNull("total"))
                "clock" -> ledger.acceptClock()
                "spend" -> ledger.spend(service, event.text("draw").hexToByteArray(), event.numberOrNull("bits"))
            }
            mapOf("sentence" to ledger.account(event.text("look")).sentence)
        } catch (refusal: LimitException) {
            mapOf("refusal" to refusal.message)
        }
    }
}
